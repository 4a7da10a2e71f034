"""Blocks of the values of a column, as bytes: texts, numbers, and other values as JSON."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

TEXT, FLOAT, JSON, HELD = "text", "float", "json", "held"
"""Forms of a block: texts, float64, JSON of each value, and values that JSON cannot hold, in memory."""

PLAIN = (bool, int, float, type(None))


@dataclasses.dataclass(frozen=True)
class Block:
    """Values of a column.

    Attributes:
        form: in which they are written.
        count: their number.
        start: of their bytes.
        stop: of their bytes; those of texts and JSON follow the position of each one's first byte and of the end.
        objects: those that are in memory.
    """

    form: str
    count: int
    start: int = 0
    stop: int = 0
    objects: Sequence[Any] = ()

    def __len__(self) -> int:
        return self.count

    def read(self, read: Callable[[int, int], np.ndarray], places: Sequence[int]) -> list[Any]:
        """Returns the values at some places.

        Args:
            read: returns bytes, uint8 `[stop - start]`.
            places: from 0 on.
        """
        if self.form == HELD:
            return [self.objects[place] for place in places]
        content = read(self.start, self.stop)
        if self.form == FLOAT:
            return content.view(np.float64)[[*places]].tolist()
        first = 8 * (self.count + 1)
        bounds, content = content[:first].view(np.int64), content[first:]
        chosen = [*places]
        starts, stops = bounds[chosen].tolist(), bounds[1:][chosen].tolist()
        data = content.tobytes() if len(chosen) > 1 else content
        if isinstance(data, bytes) and data.isascii():
            whole = data.decode("ascii")
            texts = [whole[a:b] for a, b in zip(starts, stops, strict=True)]
        else:
            texts = [bytes(data[a:b]).decode("utf-8", "surrogatepass") for a, b in zip(starts, stops, strict=True)]
        return texts if self.form == TEXT else [json.loads(text) for text in texts]


def write_block(write: Callable[[Any], int], values: list[Any]) -> Block:
    """Writes values.

    Args:
        write: appends bytes to a file, and returns the position of the first.
        values: at least one.
    """
    kinds = {*map(type, values)}
    if kinds == {float}:
        array = np.array(values, np.float64)
        start = write(array)
        return Block(FLOAT, len(values), start, start + array.nbytes)
    if kinds != {str} and not all(map(_is_json, values)):
        return Block(HELD, len(values), objects=values)
    texts = values if kinds == {str} else map(json.dumps, values)
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    bounds = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    start = write(bounds)
    write(b"".join(parts))
    stop = start + bounds.nbytes + int(bounds[-1])
    return Block(TEXT if kinds == {str} else JSON, len(values), start, stop)


def _is_json(value: Any) -> bool:
    """Whether JSON holds a value as it is: a tuple would become a list."""
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return type(value) is str or type(value) in PLAIN


def estimate(value: Any) -> int:
    """Returns about the number of bytes that a value takes in memory."""
    if type(value) is str:
        return 56 + len(value)
    if isinstance(value, list | tuple):
        return 64 + sum(map(estimate, value))
    if isinstance(value, dict):
        return 240 + sum(map(estimate, value.values()))
    return 32 + (len(value) if isinstance(value, bytes) else 0)
