"""Values and arrays of a corpus, which from a size on are in temporary files that are mapped into memory.

The files have no names, are in the folder of `tempfile` (TMPDIR), and are gone with the process.
"""

import bisect
import contextlib
import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, overload

import numpy as np

from jaxdistill.data.blocks import Block, estimate, write_block
from jaxdistill.errors import UserError

SPILL_FROM = 256 << 20
"""The bytes up to which the columns that are read together, or an array, are held in memory."""

BLOCK_VALUES, BLOCK_BYTES = 1 << 14, 1 << 20
"""The values, and the bytes, from which on those of a column are written together."""

ROWS = 4096
"""Rows of a mapped array that are read together."""


class Scratch:
    """A file without a name, and the number of bytes that memory holds in place of it."""

    def __init__(self) -> None:
        self._held = 0
        self._size = 0
        self._file: IO[bytes] | None = None
        self._mapped = np.zeros(0, np.uint8)

    def hold(self, size: int) -> bool:
        """Whether memory holds `size` bytes more; the file is for them otherwise."""
        self._held += size
        return self._held <= SPILL_FROM

    def write(self, content: Any) -> int:
        """Appends bytes, or an array; returns the position of the first byte."""
        start = self._size
        with self._refuse_full_disk():
            self._file = self._file or _open_file()
            self._size += self._file.write(memoryview(content).cast("B") if len(content) else b"")
        return start

    def read(self, start: int, stop: int) -> np.ndarray:
        """Returns bytes that were written, uint8 `[stop - start]`, mapped."""
        if stop > len(self._mapped):
            self._mapped = self.map(np.dtype(np.uint8))
        return self._mapped[start:stop]

    def map(self, dtype: np.dtype) -> np.ndarray:
        """Returns all that was written as an array `[n]`, mapped."""
        with self._refuse_full_disk():
            assert self._file is not None
            self._file.flush()
            return np.memmap(self._file, dtype, "r") if self._size else np.zeros(0, dtype)

    @contextlib.contextmanager
    def _refuse_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._file:
                with contextlib.suppress(OSError):
                    self._file.close()  # would be written again when nothing refers to it
            folder = os.environ.get("TMPDIR") or tempfile.tempdir
            raise UserError(
                f"TMPDIR must be a folder with room for the texts, tokens and features of large data, got {folder!r}"
                f" ({error}). Set it to a folder on a larger disk"
            ) from error


def _open_file() -> IO[bytes]:
    folder = os.environ.get("TMPDIR") or tempfile.gettempdir()  # tempfile would take another for one that is missing
    return contextlib.ExitStack().enter_context(tempfile.TemporaryFile(dir=folder))  # closed with its last reference


class ValueSequence(Sequence[Any]):
    """Values that are read as they are needed; subclasses have `__len__`, and `read` or both `ends` and `read_some`."""

    @property
    def ends(self) -> Sequence[int]:
        """The end of each part of the values that is read at once, ascending."""
        return [*range(ROWS, len(self), ROWS), len(self)]

    def read_some(self, part: int, places: Sequence[int]) -> list[Any]:
        """Returns the values of a part at some places, from 0 on."""
        return [self.read(part * ROWS + place) for place in places]

    def read(self, position: int) -> Any:
        """Returns the value at a position from 0 on."""
        part = bisect.bisect_right(self.ends, position)
        return self.read_some(part, [position - (self.ends[part - 1] if part else 0)])[0]

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.read(position) for position in range(len(self))[index]]
        return self.read(range(len(self))[index])

    def __iter__(self) -> Iterator[Any]:
        return map(self.read, range(len(self)))

    def iterate(self) -> Iterator[tuple[np.ndarray, list[Any]]]:
        """Yields positions, int `[n]`, and values, a part at a time."""
        for part, stop in enumerate(self.ends):
            start = self.ends[part - 1] if part else 0
            yield np.arange(start, stop), self.read_some(part, range(stop - start))


@dataclasses.dataclass(frozen=True)
class SpilledValues(ValueSequence):
    """Values in a file."""

    scratch: Scratch
    blocks: Sequence[Block]

    @functools.cached_property
    def ends(self) -> list[int]:  # type: ignore[override]
        return np.cumsum([len(block) for block in self.blocks]).tolist()

    def __len__(self) -> int:
        return self.ends[-1] if self.blocks else 0

    def read_some(self, part: int, places: Sequence[int]) -> list[Any]:
        return self.blocks[part].read(self.scratch.read, places)


@dataclasses.dataclass(frozen=True)
class Selection:
    """Positions of values, int `[n]`."""

    positions: np.ndarray

    @functools.cached_property
    def ascending(self) -> tuple[np.ndarray, np.ndarray]:
        """The order in which positions ascend, and the positions in it."""
        if (np.diff(self.positions) > 0).all():
            return np.arange(len(self.positions)), self.positions
        order = np.argsort(self.positions, kind="stable")
        return order, self.positions[order]


@dataclasses.dataclass(frozen=True)
class SelectedValues(ValueSequence):
    """The values at some positions of others."""

    values: ValueSequence
    selection: Selection

    def __len__(self) -> int:
        return len(self.selection.positions)

    def read(self, position: int) -> Any:
        return self.values.read(int(self.selection.positions[position]))

    def iterate(self) -> Iterator[tuple[np.ndarray, list[Any]]]:
        """Yields positions and values in the order of the file, whatever the order of the positions is."""
        order, ascending = self.selection.ascending
        first = 0
        for part, stop in enumerate(self.values.ends):
            last = int(np.searchsorted(ascending, stop))
            if last > first:
                start = self.values.ends[part - 1] if part else 0
                yield order[first:last], self.values.read_some(part, (ascending[first:last] - start).tolist())
            first = last


@dataclasses.dataclass(frozen=True)
class JoinedValues(ValueSequence):
    """The values of several sequences, one after the other."""

    sequences: Sequence[Sequence[Any]]

    @functools.cached_property
    def _parts(self) -> list[tuple[int, int]]:
        """The sequence, and the number of its part, of each part."""
        counts = [len(values.ends) if isinstance(values, ValueSequence) else 1 for values in self.sequences]
        return [(number, part) for number, count in enumerate(counts) for part in range(count)]

    @functools.cached_property
    def ends(self) -> list[int]:  # type: ignore[override]
        stops, start = [], 0
        for values in self.sequences:
            stops += [start + stop for stop in (values.ends if isinstance(values, ValueSequence) else [len(values)])]
            start += len(values)
        return stops

    def __len__(self) -> int:
        return self.ends[-1]

    def read_some(self, part: int, places: Sequence[int]) -> list[Any]:
        number, its_part = self._parts[part]
        values = self.sequences[number]
        if isinstance(values, ValueSequence):
            return values.read_some(its_part, places)
        return [values[place] for place in places]


@dataclasses.dataclass(frozen=True)
class MappedValues(ValueSequence):
    """A mapped column of pyarrow, or what a function makes of its values."""

    column: Any
    convert: Callable[[Any], Any] | None = None

    @functools.cached_property
    def ends(self) -> list[int]:  # type: ignore[override]
        return [*range(BLOCK_VALUES, len(self.column), BLOCK_VALUES), len(self.column)]

    def __len__(self) -> int:
        return len(self.column)

    def read_some(self, part: int, places: Sequence[int]) -> list[Any]:
        start = part * BLOCK_VALUES
        if len(places) == 1:
            values = [self.column[start + places[0]].as_py()]
        else:
            block = self.column.slice(start, BLOCK_VALUES).to_pylist()
            values = [block[place] for place in places]
        return values if self.convert is None else [self.convert(value) for value in values]


@dataclasses.dataclass(frozen=True)
class MadeValues(ValueSequence):
    """Values that a function makes of their positions."""

    make: Callable[[int], Any]
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, position: int) -> Any:
        return self.make(position)


def iterate(values: Sequence[Any]) -> Iterator[tuple[np.ndarray, Sequence[Any]]]:
    """Yields the positions, int `[n]`, and values of all parts; those of a list at once."""
    if isinstance(values, ValueSequence):
        yield from values.iterate()
    else:
        yield np.arange(len(values)), values


def gather(values: Sequence[Any]) -> Sequence[Any]:
    """Returns all values in memory, equal strings as one."""
    if not isinstance(values, ValueSequence):
        return values
    equal: dict[str, str] = {}
    gathered: list[Any] = [None] * len(values)
    for positions, part in iterate(values):
        for position, value in zip(positions.tolist(), part, strict=True):
            gathered[position] = equal.setdefault(value, value) if type(value) is str else value
    return gathered


def select(values: Sequence[Any], selection: Selection) -> Sequence[Any]:
    """Returns the values at some positions, as a list if they are one."""
    if isinstance(values, ValueSequence):
        return SelectedValues(values, selection)
    return [values[row] for row in selection.positions]


def join(sequences: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Returns values one after the other, as a list if all are in lists."""
    if all(isinstance(values, list) for values in sequences):
        return [value for values in sequences for value in values]
    return JoinedValues(sequences)


class ColumnWriter:
    """Collects the values of a column.

    Args:
        scratch: of the columns that are read together; its own if it is not given.
    """

    def __init__(self, scratch: Scratch | None = None) -> None:
        self._scratch = scratch or Scratch()
        self._held: list[Any] = []
        self._blocks: list[Block] = []
        self._pending: list[Any] = []
        self._size = 0

    def append(self, value: Any) -> None:
        self._pending.append(value)
        self._size += estimate(value)
        if self._size >= BLOCK_BYTES or len(self._pending) >= BLOCK_VALUES:
            self._close()

    def extend(self, values: Iterable[Any]) -> None:
        for value in values:
            self.append(value)

    def _close(self) -> None:
        is_held = self._scratch.hold(self._size) and not self._blocks
        self._held += self._pending
        self._pending, self._size = [], 0
        if not is_held:
            for start in range(0, len(self._held), BLOCK_VALUES):
                self._blocks.append(write_block(self._scratch.write, self._held[start : start + BLOCK_VALUES]))
            self._held = []

    def finish(self) -> Sequence[Any]:
        """Returns the values: a list, or mapped ones."""
        self._close()
        return SpilledValues(self._scratch, self._blocks) if self._blocks else self._held


class ArrayWriter:
    """Collects the parts of an array `[n, ...]`."""

    def __init__(self) -> None:
        self._first: np.ndarray | None = None
        self._only: np.ndarray | None = None
        self._held = bytearray()  # grows in its place: freed parts would stay with the process
        self._scratch = Scratch()
        self._spilled = False

    def append(self, part: np.ndarray) -> None:
        """Adds a part `[rows, ...]`, of the same dtype and size of rows as the others."""
        self._spilled = self._spilled or not self._scratch.hold(part.nbytes)
        if self._first is None:
            self._first, self._only = np.empty((0, *part.shape[1:]), part.dtype), part
            if not self._spilled:
                return
        elif self._only is not None:
            self._held.extend(_bytes_of(self._only).data)
            self._only = None
        if not self._spilled:
            self._held.extend(_bytes_of(part).data)
            return
        if self._held:
            self._scratch.write(self._held)
            self._held = bytearray()
        self._scratch.write(_bytes_of(part))
        self._only = None

    def finish(self) -> np.ndarray:
        """Returns the array, mapped if it is large."""
        assert self._first is not None
        if self._only is not None:
            return self._only
        dtype = self._first.dtype
        array = self._scratch.map(dtype) if self._spilled else np.frombuffer(self._held, dtype)
        return array.reshape(-1, *self._first.shape[1:])


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def is_mapped(array: Any) -> bool:
    """Whether an array is mapped and larger than what is held in memory."""
    return isinstance(array, np.memmap) and array.nbytes > SPILL_FROM


def map_rows(function: Callable[..., np.ndarray], array: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Returns what a function makes of the rows of arrays `[n, ...]`; a mapped array if the first is one."""
    if not is_mapped(array):
        return function(array, *others)
    writer = ArrayWriter()
    for start in range(0, len(array), ROWS):
        writer.append(function(*(np.asarray(x[start : start + ROWS]) for x in (array, *others))))
    return writer.finish()
