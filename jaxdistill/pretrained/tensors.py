"""Tensors of safetensors files, mapped into memory one at a time.

https://github.com/huggingface/safetensors: eight bytes with the length of a JSON header, the header with the dtype, the
shape and the place of each tensor, and their numbers.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdistill.errors import UserError
from jaxdistill.runtime import files

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
"""Dtypes of tensors that are read as weights, by their names in a header."""

OTHER_DTYPES = {
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""Other dtypes: of positions, for example, which are not read as weights, and of weights in few bits."""

DOWNLOAD_AGAIN = "Download the file again, and compare its size with that of the source."


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor in a file, not read yet.

    Attributes:
        file: that holds it.
        shape: its own.
        dtype: the name of its dtype.
        open: returns its numbers; of a part of them only that part is read.
    """

    file: pathlib.Path
    shape: tuple[int, ...]
    dtype: str
    open: Callable[[], np.ndarray]

    @property
    def is_weight(self) -> bool:
        """Whether its numbers are those of weights, which are converted to float32."""
        return self.dtype in DTYPES


def read_safetensors(path: pathlib.Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file by name; reads its header alone.

    Raises:
        UserError: for a file that is cut off, or whose header contradicts itself.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= size - 8:
            raise _damaged(path, f"{size} bytes, too few for a header of {length} bytes")
        text = file.read(length)
    try:
        header = json.loads(text)
        items = {name: _item(info) for name, info in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(path, f"a header that is no description of tensors ({type(error).__name__})") from error
    _check_places(path, items, size - 8 - length)
    return {name: _tensor(path, item, 8 + length) for name, item in items.items()}


@dataclasses.dataclass(frozen=True)
class _Item:
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def _item(info: Mapping) -> _Item:
    start, stop = info["data_offsets"]
    return _Item(str(info["dtype"]), tuple(int(x) for x in info["shape"]), int(start), int(stop))


def _check_places(path: pathlib.Path, items: Mapping[str, _Item], size: int) -> None:
    """Raises `UserError` unless the tensors fill the file, one after the other, each with the bytes of its shape."""
    end = 0
    for name, item in sorted(items.items(), key=lambda pair: (pair[1].start, pair[1].stop)):
        kind = (DTYPES | OTHER_DTYPES).get(item.dtype)
        width = None if kind is None else np.dtype(kind).itemsize
        if item.start != end:
            raise _damaged(path, f"tensor {name!r} at byte {item.start} where byte {end} is the next")
        if width is not None and item.stop - item.start != width * math.prod(item.shape):
            raise _damaged(
                path, f"tensor {name!r} of {item.stop - item.start} bytes for {item.dtype} {list(item.shape)}"
            )
        end = item.stop
    if end != size:
        raise _damaged(path, f"{size} bytes of numbers where its header lists {end}")


def _tensor(path: pathlib.Path, item: _Item, start: int) -> Tensor:
    def open_tensor() -> np.ndarray:
        dtype = np.dtype((DTYPES | OTHER_DTYPES)[item.dtype])
        if not math.prod(item.shape):
            return np.zeros(item.shape, dtype)
        return np.memmap(path, dtype, "r", offset=start + item.start, shape=item.shape or (1,)).reshape(item.shape)

    return Tensor(path, item.shape, item.dtype, open_tensor)


def _damaged(path: pathlib.Path, reason: str) -> UserError:
    return UserError(f"{path} must be a whole safetensors file, got {reason}. {DOWNLOAD_AGAIN}")


def write_safetensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as a safetensors file, in the order of their names.

    Args:
        path: of the file, which appears whole or not at all.
        arrays: of the dtypes in `DTYPES` and `OTHER_DTYPES`, by name.
    """
    names = {np.dtype(dtype): name for name, dtype in (DTYPES | OTHER_DTYPES).items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers reads no file without it
    end = 0
    for name in sorted(arrays):
        start, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": names[arrays[name].dtype],
            "shape": list(arrays[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = files.part_of(path)
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(arrays):
            file.write(np.ascontiguousarray(arrays[name]).tobytes())
    part.replace(path)
