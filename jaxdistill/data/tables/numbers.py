"""Transforms of columns of numbers: missing values, outliers, scales, and fewer dimensions.

A transform has a function of fitting, from the training split to arrays, and one of application, from these arrays and
a table to a table. scikit-learn does the fitting where it has it; the application needs NumPy alone.

Rules: a column without any value in the training split is imputed as 0, and has mean 0 and scale 1. A constant column
becomes 0 by `standardize`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdistill.data.tables.table import Matrix, Table, is_sparse
from jaxdistill.errors import UserError

Fitted = Mapping[str, np.ndarray]
"""The arrays of a fitted transform, by name."""


def fit_impute(table: Table, strategy: str, value: float = 0.0) -> Fitted:
    """Fits the value of each column that replaces a missing one: "mean", "median" or "constant"."""
    from sklearn.impute import SimpleImputer

    imputer = SimpleImputer(strategy=strategy, fill_value=value, keep_empty_features=True)
    return {"value": np.asarray(imputer.fit(table.numbers).statistics_, np.float64)}


def impute(fitted: Fitted, table: Table) -> Table:
    """Replaces missing values."""
    numbers = np.where(np.isnan(table.numbers), fitted["value"], table.numbers)
    return table.with_numbers(numbers, table.names)


def fit_indicator(table: Table) -> Fitted:
    """Finds the columns with missing values in the training split."""
    return {"columns": np.flatnonzero(np.isnan(table.numbers).any(0))}


def indicator(fitted: Fitted, table: Table) -> Table:
    """Appends a column for each of these, 1 where its value is missing and 0 elsewhere."""
    columns = fitted["columns"]
    names = [f"{table.names[column]} missing" for column in columns]
    return table.append(np.isnan(table.numbers[:, columns]).astype(np.float64), names)


def fit_clip(table: Table, fraction: float) -> Fitted:
    """Fits the quantiles `fraction` and `1 - fraction` of each column."""
    present = ~np.isnan(table.numbers).all(0)
    low, high = np.full(len(table.names), -np.inf), np.full(len(table.names), np.inf)
    low[present], high[present] = np.nanquantile(table.numbers[:, present], [fraction, 1 - fraction], axis=0)
    return {"low": low, "high": high}


def clip(fitted: Fitted, table: Table) -> Table:
    """Moves values beyond the quantiles onto them; missing ones are unchanged."""
    return table.with_numbers(np.clip(table.numbers, fitted["low"], fitted["high"]), table.names)


def fit_standardize(table: Table) -> Fitted:
    """Fits mean and standard deviation of each column."""
    from sklearn.preprocessing import StandardScaler

    with np.errstate(invalid="ignore"):
        scaler = StandardScaler().fit(table.numbers)
    return {"mean": np.nan_to_num(scaler.mean_), "scale": np.nan_to_num(scaler.scale_, nan=1.0)}


def standardize(fitted: Fitted, table: Table) -> Table:
    """Subtracts the mean and divides by the standard deviation."""
    return table.with_numbers((table.numbers - fitted["mean"]) / fitted["scale"], table.names)


def fit_scale(table: Table) -> Fitted:
    """Fits the largest absolute value of each column."""
    from sklearn.preprocessing import MaxAbsScaler

    return {"scale": np.nan_to_num(MaxAbsScaler().fit(table.numbers).scale_, nan=1.0)}


def scale(fitted: Fitted, table: Table) -> Table:
    """Divides by it, so that zeros remain zeros."""
    if is_sparse(table.numbers):
        return table.with_numbers(table.numbers.multiply(1 / fitted["scale"]).tocsr(), table.names)
    return table.with_numbers(table.numbers / fitted["scale"], table.names)


def fit_pca(table: Table, components: int) -> Fitted:
    """Fits the mean and the first principal components, rows of `axes` `[components, columns]`."""
    from sklearn.decomposition import PCA

    _check_components(table, components)
    pca = PCA(components, svd_solver="full").fit(table.numbers)
    return {"mean": pca.mean_, "axes": pca.components_}


def pca(fitted: Fitted, table: Table) -> Table:
    """Returns the coordinates by principal component."""
    numbers = (table.numbers - fitted["mean"]) @ fitted["axes"].T
    return table.with_numbers(numbers, _number("pca", numbers))


def denoise(fitted: Fitted, table: Table) -> Table:
    """Returns the columns rebuilt from their first principal components: what the others explain is removed."""
    numbers = (table.numbers - fitted["mean"]) @ fitted["axes"].T @ fitted["axes"] + fitted["mean"]
    return table.with_numbers(numbers, table.names)


def fit_svd(table: Table, components: int) -> Fitted:
    """Fits the first right singular vectors, without centring: a sparse matrix stays sparse."""
    from sklearn.decomposition import TruncatedSVD

    _check_components(table, components)
    return {"axes": TruncatedSVD(components, random_state=0).fit(table.numbers).components_}


def fit_project(table: Table, components: int) -> Fitted:
    """Draws a Gaussian random projection to a number of dimensions, the same one at each call."""
    from sklearn.random_projection import GaussianRandomProjection

    return {"axes": GaussianRandomProjection(components, random_state=0).fit(table.numbers).components_}


def project(fitted: Fitted, table: Table) -> Table:
    """Returns the coordinates by row of `axes`."""
    numbers = np.asarray(table.numbers @ fitted["axes"].T)
    return table.with_numbers(numbers, _number("axis", numbers))


def _number(prefix: str, numbers: Matrix) -> Sequence[str]:
    return [f"{prefix}{number}" for number in range(numbers.shape[1])]


def _check_components(table: Table, components: int) -> None:
    most = min(table.numbers.shape)
    if components > most:
        raise UserError(
            f"the number of components must be at most {most}, the smaller of {table.numbers.shape[0]} training"
            f" examples and {table.numbers.shape[1]} columns, got {components}. Take a smaller one"
        )
