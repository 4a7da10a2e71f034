"""Featurizers, transforms in order: fitted on the training split, stored as arrays, applied to any raw table.

A file of a featurizer is an `.npz` without pickled objects: `N/NAME` are the arrays of transform number N, `transforms`
the transforms as the config writes them, `names` and `strings` the columns of the raw table, `target` mean and scale,
`[2]`, or of several targets `[targets, 2]`, with `target_names`.
"""

import dataclasses
import functools
import io
import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdistill.data.tables import transforms as members
from jaxdistill.data.tables.parts import MatrixWriter, Parts
from jaxdistill.data.tables.table import Matrix, Table, is_sparse, measure, on_rows
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

FILE = "featurizer.npz"
"""The file of the featurizer in the folder of a stage."""


@dataclasses.dataclass(frozen=True)
class Featurizer:
    """Fitted transforms, in order.

    Attributes:
        transforms: as a config writes them.
        fitted: the arrays of each.
        names: columns of numbers of the raw table.
        strings: columns of strings of the raw table.
        targets: mean and standard deviation of each target in the training split; (0, 1) without.
        target_names: of several targets; none for one.
    """

    transforms: tuple[str, ...]
    fitted: tuple[Mapping[str, np.ndarray], ...]
    names: tuple[str, ...]
    strings: tuple[str, ...]
    targets: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    target_names: tuple[str, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all that determines the featurizer, by name."""
        arrays = {f"{number}/{name}": x for number, step in enumerate(self.fitted) for name, x in step.items()}
        texts = {"transforms": self.transforms, "names": self.names, "strings": self.strings}
        lists = {name: np.array(values, str) for name, values in texts.items()}
        targets = np.array(self.targets, np.float64)
        named = {"target_names": np.array(self.target_names, str)} if self.target_names else {}
        return arrays | lists | {"target": targets[0] if len(targets) == 1 else targets} | named

    def digest(self) -> str:
        """Returns a digest, the same for featurizers that transform every table in the same way."""
        parts = [f"{name} {x.dtype} {x.shape}".encode() + x.tobytes() for name, x in sorted(self.arrays().items())]
        return files.digest(*parts)

    def save(self, path: pathlib.Path) -> None:
        """Writes the file of the featurizer."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.arrays())
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, buffer.getvalue())


def load(path: pathlib.Path) -> Featurizer:
    """Reads the file of a featurizer, or that in the folder of a stage.

    Raises:
        UserError: for a missing or damaged file.
    """
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"data.featurizer must be a folder with {FILE}, got no file {str(path)!r}. Correct it")
    try:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = dict(loaded)
        lists = {name: tuple(map(str, arrays.pop(name))) for name in ("transforms", "names", "strings")}
        target_names = tuple(map(str, arrays.pop("target_names", ())))
        targets = tuple((float(mean), float(scale)) for mean, scale in np.atleast_2d(arrays.pop("target")))
        steps: list[dict[str, np.ndarray]] = [{} for _ in lists["transforms"]]
        for key, array in arrays.items():
            number, _, name = key.partition("/")
            steps[int(number)][name] = array
    except (ValueError, OSError, EOFError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} must be a featurizer's file, got one that is damaged ({error}). Train again"
        ) from error
    return Featurizer(fitted=tuple(steps), targets=targets, target_names=target_names, **lists)


def fit(transforms: Sequence[str], table: Table, target_names: tuple[str, ...] = ()) -> Featurizer:
    """Fits transforms in order, each on the output of those before it.

    Args:
        transforms: as a config writes them, such as `("impute:median", "standardize", "pca:16")`.
        table: the training split.
        target_names: of the targets of `table`; "target" if empty.

    Raises:
        UserError: for an unknown transform, a target without numbers, and a transform that does not fit the columns.
    """
    raw, parts, fitted = table, Parts(table), []
    for text in transforms:
        member, arguments = members.find(text)
        _check_input(text, member, parts)
        fitted.append({name: np.asarray(x) for name, x in member.fit(parts, *arguments).items()})
        parts = parts.then(functools.partial(member.apply, fitted[-1]))
    columns = _columns(raw.target)
    names = target_names or ("target",) * len(columns)
    path = "data.targets must be columns" if len(columns) > 1 else "data.target must be a column"
    targets = tuple(_fit_target(path, *item) for item in zip(names, columns, strict=True)) or ((0.0, 1.0),)
    named = target_names if len(target_names) > 1 else ()
    strings = tuple(raw.strings)
    return Featurizer(tuple(transforms), tuple(fitted), raw.names, strings, targets=targets, target_names=named)


def _check_input(text: str, member: members.Transform, parts: Parts) -> None:
    table = parts.first
    if is_sparse(table.numbers) and not member.takes_sparse:
        raise UserError(
            f"data.transforms {text!r} must get dense numbers, got sparse ones, which it would fill. Take one of"
            f" {[*members.SPARSE]}, or 'svd:100' or 'project:100' before it"
        )
    if not member.of_strings and not table.names:
        raise UserError(
            f"data.transforms {text!r} must get columns of numbers, got the strings {[*table.strings]} alone. Put"
            " 'onehot', 'hash:16' or 'tfidf:5000' before it"
        )
    needs_all = text.partition(":")[0] in ("pca", "denoise", "svd", "project") and not is_sparse(table.numbers)
    if needs_all and any(np.isnan(part.numbers).any() for part in parts):
        raise UserError(f"data.transforms {text!r} must get no missing values, got some. Put 'impute:median' before it")


def _columns(target: np.ndarray | None) -> Sequence[np.ndarray]:
    return () if target is None else np.atleast_2d(target.T)


def _fit_target(path: str, name: str, column: np.ndarray) -> tuple[float, float]:
    """Returns mean and standard deviation of the targets that are present; a constant one has the scale 1."""
    present = column[~np.isnan(column)]
    if not len(present):
        raise UserError(
            f"{path} with numbers in the training split, got none in {name!r}. Fill some in, or take another"
        )
    return measure(present)


def apply(featurizer: Featurizer, table: Table) -> Matrix:
    """Returns the features of raw examples, float32 `[n, width]`, sparse if the last transform's output is.

    Raises:
        UserError: for a table with other columns than those that the featurizer was fitted on, for strings that no
            transform encodes, and for missing or infinite values that are left.
    """
    _check_columns(featurizer, table)
    parts, matrices, first = Parts(table), MatrixWriter(), 0
    for text, fitted in zip(featurizer.transforms, featurizer.fitted, strict=True):
        parts = parts.then(functools.partial(members.find(text)[0].apply, fitted))
    for part in parts:
        if part.strings:
            raise UserError(
                f"data.transforms must encode the columns of strings {[*part.strings]}, got {[*featurizer.transforms]}."
                " Add 'onehot', 'hash:16' or 'tfidf:5000', or leave them out of data.columns"
            )
        numbers = on_rows(lambda x: x.astype(np.float32), part.numbers)
        _check_finite(numbers, part.names, first)
        matrices.append(numbers)
        first += len(part)
    return matrices.finish()


def _check_columns(featurizer: Featurizer, table: Table) -> None:
    expected, present = (featurizer.names, featurizer.strings), (table.names, tuple(table.strings))
    if expected != present:
        lines = files.diff_lines(
            {"numbers": list(expected[0]), "strings": list(expected[1])},
            {"numbers": list(present[0]), "strings": list(present[1])},
        )
        raise UserError(
            "the columns of a table must be those that its featurizer was fitted on (-), got (+):\n  "
            + "\n  ".join(lines)
            + "\nSet data.columns to the same columns in the same order"
        )


def _check_finite(numbers: Matrix, names: Sequence[str], first: int) -> None:
    values = numbers.data if is_sparse(numbers) else numbers
    if np.isfinite(values).all():
        return
    if is_sparse(numbers):
        raise UserError("sparse features must be finite, got others. Clean the data")
    row, column = np.argwhere(~np.isfinite(numbers))[0]
    kind = "a missing value" if np.isnan(numbers[row, column]) else "an infinite value"
    remedy = "Add 'impute:median'" if np.isnan(numbers[row, column]) else "Add 'clip:0.01', or clean the data"
    raise UserError(
        f"data.transforms must leave finite numbers, got {kind} in column {names[column]!r} of example"
        f" {first + row}. {remedy}"
    )
