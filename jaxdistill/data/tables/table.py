"""Raw examples of a table: columns of numbers and of strings, and a label or a target."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.spilled import ROWS, is_mapped
from jaxdistill.errors import UserError

Matrix = Any
"""Numbers `[n, columns]`: a float array, or a scipy-sparse CSR matrix."""

Strings = Any
"""Strings `[n]`: an array of str, or a column of `tables.categories`, of which an index makes one."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest magnitude of a number: features and targets become float32."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Examples as they were read.

    Attributes:
        numbers: `[n, columns]`, float64 with NaN for a missing value, mapped ones of any float type and order, or a
            scipy-sparse matrix in CSR form.
        names: of the columns of numbers.
        strings: columns of categories or texts by name, `[n]`; "" is a missing value.
        label: classes, int32 `[n]`, `core.UNLABELLED` if missing; `None` for a table with `labels` or a target.
        target: float64 `[n]`, or of several `[n, targets]`, NaN if missing; `None` for other tables.
        labels: 1 or 0 of several classes, float32 `[n, classes]`, NaN if missing; `None` for other tables.
    """

    numbers: Matrix
    names: tuple[str, ...]
    strings: Mapping[str, Strings] = dataclasses.field(default_factory=dict)
    label: np.ndarray | None = None
    target: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return self.numbers.shape[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns, those of numbers first."""
        return (*self.names, *self.strings)

    @property
    def is_mapped(self) -> bool:
        """Whether numbers or strings are in files."""
        return is_mapped(self.numbers) or not all(isinstance(x, np.ndarray) for x in self.strings.values())

    def parts(self) -> Iterator["Table"]:
        """Yields the table, a mapped one in parts of rows, with numbers of float64 in memory."""
        if not self.is_mapped:
            yield self
            return
        for start in range(0, len(self), ROWS):
            part = self.select(slice(start, start + ROWS))
            yield part.with_numbers(np.array(part.numbers, np.float64, order="C"), part.names)

    def select(self, positions: np.ndarray | slice) -> "Table":
        """Returns the examples at some positions."""

        def take(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[positions]

        strings = {name: column[positions] for name, column in self.strings.items()}
        answers = {"label": take(self.label), "target": take(self.target), "labels": take(self.labels)}
        return Table(self.numbers[positions], self.names, strings, **answers)

    def with_numbers(self, numbers: Matrix, names: Sequence[str]) -> "Table":
        """Returns the table with other columns of numbers."""
        return dataclasses.replace(self, numbers=numbers, names=tuple(names))

    def append(self, numbers: Matrix, names: Sequence[str], without: Sequence[str] = ()) -> "Table":
        """Returns the table with further columns of numbers, and without some columns of strings.

        The numbers are sparse if they or the new ones are.
        """
        strings = {name: column for name, column in self.strings.items() if name not in without}
        joined = join(self.numbers, numbers)
        return dataclasses.replace(self, numbers=joined, names=(*self.names, *names), strings=strings)


def is_sparse(numbers: Matrix) -> bool:
    """Whether numbers are a scipy-sparse matrix."""
    return not isinstance(numbers, np.ndarray)


def join(left: Matrix, right: Matrix) -> Matrix:
    """Returns the columns of two matrices side by side, sparse if either is."""
    if not left.shape[1]:
        return right
    if is_sparse(left) or is_sparse(right):
        from scipy import sparse

        return sparse.hstack([left, right], format="csr")
    return np.concatenate([left, right], 1)


def split_positions(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Splits positions by chance: 60 % to train on, 20 % to validate on, 20 % to test on.

    The order is that of NumPy's legacy generator, whose stream is frozen across versions.
    """
    order = np.random.RandomState(seed).permutation(count)
    first, second = round(0.6 * count), round(0.8 * count)
    return {"train": order[:first], "validation": order[first:second], "test": order[second:]}


def split_rows(table: Table) -> dict[str, Table]:
    """Splits the examples of a table by `split_positions`."""
    return {role: table.select(positions) for role, positions in split_positions(len(table)).items()}


def on_rows(function: Callable[[np.ndarray], np.ndarray], numbers: Matrix) -> Matrix:
    """Applies a function to the stored values of a matrix, such as a conversion of its dtype."""
    if not is_sparse(numbers):
        return function(numbers)
    result = numbers.copy()
    result.data = function(result.data)
    return result


def mark_missing(array: np.ndarray) -> np.ndarray:
    """Returns 0 for the rows of `[n, columns]` with a number, and `UNLABELLED` for those of NaN alone, int32 `[n]`."""
    return np.where(np.isnan(array).all(-1), UNLABELLED, 0).astype(np.int32)


FAR = 30
"""The number of standard deviations from the mean of a target that a prediction may be."""


def measure(numbers: np.ndarray) -> tuple[float, float]:
    """Returns mean and standard deviation of targets `[n]`, `n` above 0; equal ones have the scale 1.

    The mean of equal numbers may be rounded, and their standard deviation is then tiny in place of 0.

    Raises:
        UserError: for targets so large that predictions of them may be no numbers of float32.
    """
    if numbers.min() == numbers.max():
        return float(numbers[0]), 1.0
    mean, scale = float(numbers.mean()), float(numbers.std())
    if not abs(mean) + FAR * scale <= LARGEST:
        raise UserError(
            f"targets must be such that {FAR} standard deviations are numbers of float32, got a mean of {mean:.3g} and"
            f" a standard deviation of {scale:.3g}, of numbers up to {np.abs(numbers).max():.3g}. Save them in larger"
            " units, such as divided by 1e9"
        )
    return mean, scale
