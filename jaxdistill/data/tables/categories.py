"""Columns of strings that are larger than memory: categories as numbers, texts in their file."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.blocks import estimate
from jaxdistill.data.spilled import ArrayWriter, iterate

LARGEST = 16 << 20
"""Bytes of the different strings of a column up to which it has categories."""


@dataclasses.dataclass(frozen=True)
class Categories:
    """A column as the numbers of its different strings.

    Attributes:
        numbers: int32 `[n]`, mapped if they are large.
        words: the different strings, an array of objects.
    """

    numbers: np.ndarray
    words: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.words[self.numbers[rows]].astype(np.str_)


@dataclasses.dataclass(frozen=True)
class LongTexts:
    """A column of texts that are read as they are needed.

    Attributes:
        values: as they are in the file.
        convert: returns the string of a value.
    """

    values: Sequence[Any]
    convert: Callable[[Any], str]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> np.ndarray:
        positions = np.arange(len(self.values))[rows]
        return np.array([self.convert(self.values[int(row)]) for row in positions], np.str_)


def hold(values: Sequence[Any], convert: Callable[[Any], str]) -> Categories | LongTexts:
    """Returns mapped values as a column of strings.

    Args:
        values: as they are in the file.
        convert: returns the string of a value.
    """
    codes: dict[str, int] = {}
    numbers, size, writer = np.empty(len(values), np.int32), 0, ArrayWriter()
    for positions, block in iterate(values):
        words = [*map(convert, block)]
        size += sum(estimate(word) for word in {*words} - codes.keys())
        if size > LARGEST:
            return LongTexts(values, convert)
        numbers[positions] = [codes.setdefault(word, len(codes)) for word in words]
    writer.append(numbers)
    return Categories(writer.finish(), np.array([*codes], object))
