"""A table after transforms, in parts of rows: one that is mapped is never in memory as a whole."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from jaxdistill.data.spilled import ArrayWriter
from jaxdistill.data.tables.table import Matrix, Table, is_sparse

COLUMN_BYTES = 64 << 20
"""Bytes of the columns of a mapped table that are held together."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """The rows of a table after steps; those of a mapped one are computed in each iteration.

    Attributes:
        table: before the steps.
        steps: functions of a part.
    """

    table: Table
    steps: tuple[Callable[[Table], Table], ...] = ()

    def __iter__(self) -> Iterator[Table]:
        for part in self.table.parts():
            for step in self.steps:
                part = step(part)
            yield part

    def __len__(self) -> int:
        return len(self.table)

    @property
    def first(self) -> Table:
        """The first part; it has the columns of all."""
        return next(iter(self))

    def then(self, step: Callable[[Table], Table]) -> "Parts":
        """Returns the rows after a further step."""
        return Parts(self.table, (*self.steps, step)) if self.table.is_mapped else Parts(step(self.table))

    def numbers(self) -> Iterator[np.ndarray]:
        """Yields the numbers of each part; a single column at once, since NumPy adds it in another order."""
        if self.first.numbers.shape[1] == 1:
            yield self.gather()
        else:
            yield from (part.numbers for part in self)

    def gather(self, columns: slice | None = None) -> Matrix:
        """Returns some or all columns of numbers of all rows, `[n, columns]`, in memory."""
        chosen = [part.numbers if columns is None else part.numbers[:, columns] for part in self]
        return chosen[0] if len(chosen) == 1 else np.concatenate(chosen)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the numbers of all rows, a few columns at a time; those of a table in memory together."""
        width = self.first.numbers.shape[1]
        step = max(1, COLUMN_BYTES // (8 * len(self)) if self.table.is_mapped else width)
        for start in range(0, width, step):
            yield self.gather(slice(start, start + step))


def add_rows(total: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """Returns sums by column, `[columns]`, row after row: those of parts are those of the whole to the bit."""
    return rows.sum(0) if total is None else np.concatenate([total[None], rows]).sum(0)


class MatrixWriter:
    """Collects the rows of a matrix `[n, columns]`, which is mapped if it is dense and large."""

    def __init__(self) -> None:
        self._dense = ArrayWriter()
        self._sparse: list[Matrix] = []

    def append(self, rows: Matrix) -> None:
        if is_sparse(rows):
            self._sparse.append(rows)
        else:
            self._dense.append(rows)

    def finish(self) -> Matrix:
        """Returns the matrix, the only one that was added as it is."""
        if not self._sparse:
            return self._dense.finish()
        if len(self._sparse) == 1:
            return self._sparse[0]
        from scipy import sparse

        return sparse.vstack(self._sparse, "csr")
