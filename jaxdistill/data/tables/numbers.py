"""Transforms of columns of numbers: missing values, outliers, scales, and fewer dimensions.

A transform has a function of fitting, from the parts of the training split to arrays, and one of application, from
these arrays and a table to a table. scikit-learn does the fitting where it has it; the application needs NumPy alone.
Fits are in passes over the parts, but for "median" and `clip`, which hold a few columns at a time, and the axes of
`pca`, `denoise` and `svd`, which hold the numbers of the training split.

Rules: a column without any value in the training split is imputed as 0, and has mean 0 and scale 1. A constant column
becomes 0 by `standardize`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdistill.data.tables.parts import Parts, add_rows
from jaxdistill.data.tables.table import Matrix, Table, is_sparse
from jaxdistill.errors import UserError

Fitted = Mapping[str, np.ndarray]
"""The arrays of a fitted transform, by name."""

EPSILON = np.finfo(np.float64).eps


def fit_impute(parts: Parts, strategy: str, value: float = 0.0) -> Fitted:
    """Fits the value of each column that replaces a missing one: "mean", "median" or "constant"."""
    from sklearn.impute import SimpleImputer

    if strategy == "mean":
        sums, counts = _sum_present(parts)
        return {"value": np.divide(sums, counts, out=np.zeros(len(sums)), where=counts > 0)}
    values = [
        SimpleImputer(strategy=strategy, fill_value=value, keep_empty_features=True).fit(block).statistics_
        for block in parts.blocks()
    ]
    return {"value": np.concatenate(values).astype(np.float64)}


def _sum_present(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sum, and the number, of the values of each column that are not missing."""
    sums, counts = None, np.zeros(0)
    for numbers in parts.numbers():
        present = ~np.isnan(numbers)
        sums, counts = add_rows(sums, np.where(present, numbers, 0.0)), (0 if sums is None else counts) + present.sum(0)
    assert sums is not None
    return sums, counts


def impute(fitted: Fitted, table: Table) -> Table:
    """Replaces missing values."""
    numbers = np.where(np.isnan(table.numbers), fitted["value"], table.numbers)
    return table.with_numbers(numbers, table.names)


def fit_indicator(parts: Parts) -> Fitted:
    """Finds the columns with missing values in the training split."""
    return {"columns": np.flatnonzero(np.any([np.isnan(part.numbers).any(0) for part in parts], 0))}


def indicator(fitted: Fitted, table: Table) -> Table:
    """Appends a column for each of these, 1 where its value is missing and 0 elsewhere."""
    columns = fitted["columns"]
    names = [f"{table.names[column]} missing" for column in columns]
    return table.append(np.isnan(table.numbers[:, columns]).astype(np.float64), names)


def fit_clip(parts: Parts, fraction: float) -> Fitted:
    """Fits the quantiles `fraction` and `1 - fraction` of each column."""
    limits = []
    for block in parts.blocks():
        present, ends = ~np.isnan(block).all(0), np.full((2, block.shape[1]), [[-np.inf], [np.inf]])
        ends[:, present] = np.nanquantile(block[:, present], [fraction, 1 - fraction], axis=0)
        limits.append(ends)
    low, high = np.concatenate(limits, 1)
    return {"low": low, "high": high}


def clip(fitted: Fitted, table: Table) -> Table:
    """Moves values beyond the quantiles onto them; missing ones are unchanged."""
    return table.with_numbers(np.clip(table.numbers, fitted["low"], fitted["high"]), table.names)


def fit_standardize(parts: Parts) -> Fitted:
    """Fits mean and standard deviation of each column.

    They are those of scikit-learn's `StandardScaler` on all rows: Chan, Golub, LeVeque, "Algorithms for Computing the
    Sample Variance", The American Statistician 37, 1983, the corrected algorithm of two passes.
    """
    sums, counts = _sum_present(parts)
    with np.errstate(invalid="ignore"):
        mean, deviations, squares = sums / counts, None, None
        for numbers in parts.numbers():
            difference = np.where(np.isnan(numbers), 0.0, numbers - mean)
            deviations, squares = add_rows(deviations, difference), add_rows(squares, difference**2)
        assert deviations is not None
        assert squares is not None
        variance = (squares - deviations**2 / counts) / counts
        error = counts * EPSILON * variance + (counts * mean * EPSILON) ** 2
        scale = np.where(variance <= error, 1.0, np.sqrt(variance))
    return {"mean": np.nan_to_num(mean), "scale": np.nan_to_num(scale, nan=1.0)}


def standardize(fitted: Fitted, table: Table) -> Table:
    """Subtracts the mean and divides by the standard deviation."""
    return table.with_numbers((table.numbers - fitted["mean"]) / fitted["scale"], table.names)


def fit_scale(parts: Parts) -> Fitted:
    """Fits the largest absolute value of each column."""
    from sklearn.preprocessing import MaxAbsScaler

    scaler = MaxAbsScaler()
    for part in parts:
        scaler.partial_fit(part.numbers)
    return {"scale": np.nan_to_num(scaler.scale_, nan=1.0)}


def scale(fitted: Fitted, table: Table) -> Table:
    """Divides by it, so that zeros remain zeros."""
    if is_sparse(table.numbers):
        return table.with_numbers(table.numbers.multiply(1 / fitted["scale"]).tocsr(), table.names)
    return table.with_numbers(table.numbers / fitted["scale"], table.names)


def fit_pca(parts: Parts, components: int) -> Fitted:
    """Fits the mean and the first principal components, rows of `axes` `[components, columns]`."""
    from sklearn.decomposition import PCA

    numbers = parts.gather()
    _check_components(numbers, components)
    pca = PCA(components, svd_solver="full").fit(numbers)
    return {"mean": pca.mean_, "axes": pca.components_}


def pca(fitted: Fitted, table: Table) -> Table:
    """Returns the coordinates by principal component."""
    numbers = (table.numbers - fitted["mean"]) @ fitted["axes"].T
    return table.with_numbers(numbers, _number("pca", numbers))


def denoise(fitted: Fitted, table: Table) -> Table:
    """Returns the columns rebuilt from their first principal components: what the others explain is removed."""
    numbers = (table.numbers - fitted["mean"]) @ fitted["axes"].T @ fitted["axes"] + fitted["mean"]
    return table.with_numbers(numbers, table.names)


def fit_svd(parts: Parts, components: int) -> Fitted:
    """Fits the first right singular vectors, without centring: a sparse matrix stays sparse."""
    from sklearn.decomposition import TruncatedSVD

    numbers = parts.gather()
    _check_components(numbers, components)
    return {"axes": TruncatedSVD(components, random_state=0).fit(numbers).components_}


def fit_project(parts: Parts, components: int) -> Fitted:
    """Draws a Gaussian random projection to a number of dimensions, the same one at each call."""
    from sklearn.random_projection import GaussianRandomProjection

    # Of the rows it takes their width alone.
    return {"axes": GaussianRandomProjection(components, random_state=0).fit(parts.first.numbers).components_}


def project(fitted: Fitted, table: Table) -> Table:
    """Returns the coordinates by row of `axes`."""
    numbers = np.asarray(table.numbers @ fitted["axes"].T)
    return table.with_numbers(numbers, _number("axis", numbers))


def _number(prefix: str, numbers: Matrix) -> Sequence[str]:
    return [f"{prefix}{number}" for number in range(numbers.shape[1])]


def _check_components(numbers: Matrix, components: int) -> None:
    most = min(numbers.shape)
    if components > most:
        raise UserError(
            f"the number of components must be at most {most}, the smaller of {numbers.shape[0]} training"
            f" examples and {numbers.shape[1]} columns, got {components}. Take a smaller one"
        )
