"""Layout of the records of a cache: dtypes, and whole numbers of few bits.

A record is arrays one after another, C order, little-endian, nothing between them. `bfloat16` is stored as its 16 bits.
Whole numbers of N bits, `uintN`, are packed along the last axis, the lowest bit first.
"""

from collections.abc import Mapping

import ml_dtypes
import numpy as np

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
"""Dtypes that floats may be stored as."""

PLAIN = {"bfloat16": "<u2", "float16": "<f2", "float32": "<f4", "uint16": "<u2", "int32": "<i4", "int8": "i1"}
"""Dtypes whose numbers are stored one by one, and their form."""

Arrays = Mapping[str, tuple[tuple[int, ...], str]]
"""name -> (shape, dtype)."""


def make_layout(arrays: Arrays) -> np.dtype:
    """Returns the packed layout of arrays."""

    def field(name: str, shape: tuple[int, ...], dtype: str) -> tuple[str, str, tuple[int, ...]]:
        if dtype in PLAIN:
            return name, PLAIN[dtype], shape
        return name, "u1", (*shape[:-1], -(-shape[-1] * _count_bits(dtype) // 8))

    return np.dtype([field(name, shape, dtype) for name, (shape, dtype) in arrays.items()])


def read_dtype(dtype: str) -> np.dtype:
    """Returns the dtype of an array as it is read."""
    return np.dtype(DTYPES.get(dtype, dtype) if dtype in PLAIN else np.int32)


def convert(values: np.ndarray, dtype: str) -> np.ndarray:
    """Returns values in their stored form."""
    if dtype not in PLAIN:
        return pack_bits(values, _count_bits(dtype))
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values.astype(DTYPES.get(dtype, dtype)))


def read_arrays(rows: np.ndarray, arrays: Arrays) -> dict[str, np.ndarray]:
    """Returns the arrays of records, `[rows, ...]` each, as they are read."""
    values = {}
    for name, (shape, dtype) in arrays.items():
        stored = np.ascontiguousarray(rows[name])
        if dtype in PLAIN:
            values[name] = stored.view(read_dtype(dtype))
        else:
            values[name] = unpack_bits(stored, shape[-1], _count_bits(dtype))
    return values


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Returns whole numbers `[..., count]` of some bits as bytes, uint8 `[..., bytes]`."""
    digits = (values[..., None] >> np.arange(bits)).astype(np.uint8) & 1
    return np.packbits(digits.reshape(*values.shape[:-1], -1), axis=-1, bitorder="little")


def unpack_bits(packed: np.ndarray, count: int, bits: int) -> np.ndarray:
    """Returns the whole numbers of `pack_bits`, int32 `[..., count]`."""
    digits = np.unpackbits(packed, axis=-1, count=count * bits, bitorder="little")
    return digits.reshape(*packed.shape[:-1], count, bits) @ (1 << np.arange(bits, dtype=np.int32))


def _count_bits(dtype: str) -> int:
    return int(dtype.removeprefix("uint"))
