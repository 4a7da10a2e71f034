"""Texts and arrays of a corpus, which from a size on are in temporary files that are mapped into memory.

The files have no names, are in the folder of `tempfile` (TMPDIR), and are gone with the process.
"""

import array
import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, overload

import numpy as np

SPILL_FROM = 256 << 20
"""The bytes up to which the texts of a column, or an array, are held in memory."""


class TextSequence(Sequence[Any]):
    """Texts that are read one at a time; subclasses have `__len__` and `read`."""

    def read(self, position: int) -> Any:
        """Returns the text at a position from 0 on."""
        raise NotImplementedError

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


@dataclasses.dataclass(frozen=True)
class SpilledTexts(TextSequence):
    """Texts in a file.

    Attributes:
        content: uint8 `[bytes]`, mapped.
        ends: of each text, int64 `[texts]`.
        others: values that are no strings, by position.
    """

    content: np.ndarray
    ends: np.ndarray
    others: Mapping[int, Any]

    def __len__(self) -> int:
        return len(self.ends)

    def read(self, position: int) -> Any:
        if position in self.others:
            return self.others[position]
        start = self.ends[position - 1] if position else 0
        return self.content[start : self.ends[position]].tobytes().decode("utf-8", "surrogatepass")


@dataclasses.dataclass(frozen=True)
class SelectedTexts(TextSequence):
    """The texts at some positions of others."""

    texts: Sequence[Any]
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, position: int) -> Any:
        return self.texts[int(self.positions[position])]


@dataclasses.dataclass(frozen=True)
class JoinedTexts(TextSequence):
    """The texts of several sequences, one after the other."""

    parts: Sequence[Sequence[Any]]

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """The end of each sequence, int64 `[parts]`."""
        return np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, position: int) -> Any:
        number = int(np.searchsorted(self.ends, position, side="right"))
        return self.parts[number][position - (int(self.ends[number - 1]) if number else 0)]


@dataclasses.dataclass(frozen=True)
class MappedTexts(TextSequence):
    """A mapped column of pyarrow."""

    column: Any

    def __len__(self) -> int:
        return len(self.column)

    def read(self, position: int) -> Any:
        return self.column[position].as_py()


def select(values: Sequence[Any], positions: np.ndarray) -> Sequence[Any]:
    """Returns the values at some positions, as a list if they are one."""
    return [values[row] for row in positions] if isinstance(values, list) else SelectedTexts(values, positions)


def join(parts: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Returns values one after the other, as a list if all parts are lists."""
    if all(isinstance(part, list) for part in parts):
        return [value for part in parts for value in part]
    return JoinedTexts(parts)


def _open_file() -> IO[bytes]:
    return contextlib.ExitStack().enter_context(tempfile.TemporaryFile())  # closed when nothing refers to it


class TextWriter:
    """Collects the values of a column of texts."""

    def __init__(self) -> None:
        self._held: list[Any] = []
        self._size = 0
        self._file: IO[bytes] | None = None
        self._ends = array.array("q")
        self._others: dict[int, Any] = {}

    def append(self, value: Any) -> None:
        if self._file is not None:
            self._write(self._file, value)
            return
        self._held.append(value)
        self._size += len(value) if isinstance(value, str) else 0
        if self._size > SPILL_FROM:
            self._file, self._size = _open_file(), 0
            for text in self._held:
                self._write(self._file, text)
            self._held = []

    def _write(self, file: IO[bytes], value: Any) -> None:
        if isinstance(value, str):
            self._size += file.write(value.encode("utf-8", "surrogatepass"))
        else:
            self._others[len(self._ends)] = value
        self._ends.append(self._size)

    def finish(self) -> Sequence[Any]:
        """Returns the values: a list, or mapped texts."""
        if self._file is None:
            return self._held
        self._file.flush()
        return SpilledTexts(np.memmap(self._file, np.uint8, "r"), np.array(self._ends, np.int64), self._others)


class ArrayWriter:
    """Collects the parts of an array `[n]`."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    def append(self, part: np.ndarray) -> None:
        """Adds a part, of the same dtype as the others."""
        self._size += part.nbytes
        if self._file is None and self._size > SPILL_FROM:
            self._file = _open_file()
            for earlier in self._parts:
                earlier.tofile(self._file)
            self._parts = [part[:0]]  # for its dtype
        if self._file is None:
            self._parts.append(part)
        else:
            part.tofile(self._file)

    def finish(self) -> np.ndarray:
        """Returns the array, mapped if it is large."""
        if self._file is None:
            return np.concatenate(self._parts)
        self._file.flush()
        return np.memmap(self._file, self._parts[0].dtype, "r")
