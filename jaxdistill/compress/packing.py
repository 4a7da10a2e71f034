"""Integers of few bits with their scales: rounding, packing two of four bits into a byte, and the way back.

    w = s q,  q in [-(2^(bits - 1) - 1), 2^(bits - 1) - 1],  s = max |w| / (2^(bits - 1) - 1)     symmetric, per channel

A byte holds the integer of an even position of the flat array in its low half, and its successor in the high half, as
ONNX packs INT4; an odd number of integers is padded by a zero.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.errors import UserError, check_between

BITS = (8, 4)
"""Widths of integers that weights are rounded to."""


@dataclasses.dataclass(frozen=True)
class StoredIntegers:
    """An array in few bits: `(values - zero) * scale`.

    Attributes:
        values: int8, in the shape of the array.
        scale: float32, with as many axes.
        bits: 2 to 8. Programs hold them in four or eight.
        zero: the integer of the number 0, int8 in the shape of the scale; `None` for symmetric ones.
    """

    values: np.ndarray
    scale: np.ndarray
    bits: int
    zero: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_between("bits", self.bits, 2, 8)
        least, most = -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
        if self.values.size and not least <= self.values.min() <= self.values.max() <= most:
            raise UserError(f"integers of {self.bits} bits must be in [{least}, {most}], got others. Take more bits")

    @property
    def stored(self) -> np.ndarray:
        """The integers as a program holds them: int8, or uint8 `[ceil(n / 2)]` of at most four bits."""
        return pack(self.values) if self.bits <= 4 else self.values

    def dequantize(self) -> np.ndarray:
        """Returns the float32 array."""
        return np.asarray(dequantize(self.values, self.scale, self.zero))

    def traced(self) -> jax.Array:
        """Returns the array as a computation on the stored integers, which a compiler finds as constants."""
        values = jnp.asarray(self.stored)
        return dequantize(unpack(values, self.values.shape) if self.bits <= 4 else values, self.scale, self.zero)


def check_bits(path: str, bits: int) -> None:
    """Raises `UserError` for a width that files do not have."""
    if bits not in BITS:
        raise UserError(f"{path} must be one of {list(BITS)}, got {bits}. Take one of them")


def round_symmetric(array: np.ndarray, bits: int, summed: Sequence[int]) -> StoredIntegers:
    """Returns the nearest integers, with one scale for each channel.

    Args:
        array: the weights, float32.
        bits: 8 or 4.
        summed: axes that share a scale.
    """
    check_bits("bits", bits)
    most = 2 ** (bits - 1) - 1
    scale = np.max(np.abs(array), tuple(summed), keepdims=True).astype(np.float32) / np.float32(most)
    values = np.round(array / np.where(scale > 0, scale, 1))
    return StoredIntegers(np.clip(values, -most, most).astype(np.int8), scale, bits)


def pack(values: np.ndarray) -> np.ndarray:
    """Returns integers from -8 to 7 two to a byte, uint8 `[ceil(n / 2)]`."""
    flat = values.reshape(-1).astype(np.int8)
    flat = np.pad(flat, (0, flat.size % 2)).view(np.uint8) & 15
    return flat[::2] | (flat[1::2] << 4)


def unpack(packed: Any, shape: Sequence[int]) -> Any:
    """Returns the integers of bytes, int8 in a shape; of arrays of numpy or of JAX."""
    numpy = np if isinstance(packed, np.ndarray) else jnp
    flat = numpy.stack([packed & 15, packed >> 4], -1).reshape(-1)[: math.prod(shape)].astype(np.int8)
    return numpy.where(flat > 7, flat - 16, flat).astype(np.int8).reshape(shape)


def dequantize(values: Any, scale: Any, zero: Any = None) -> Any:
    """Returns `(values - zero) * scale` in float32."""
    whole = values.astype(np.float32) if zero is None else values.astype(np.float32) - zero.astype(np.float32)
    return whole * scale
