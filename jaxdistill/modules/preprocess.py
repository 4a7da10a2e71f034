"""Preprocessing of images for networks that expect others than those of the data."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import LUMINANCE
from jaxdistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The images that a network expects.

    Attributes:
        shape: height, width and channels.
        mean, std: by channel, of numbers in [0, 1].
        shorter_side: that images of another shape are resized to before their centre is cut out; 0 to resize them to
            the shape itself.
        interpolation: of resizing: "bilinear", "bicubic" or "nearest".
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shorter_side: int = 0
    interpolation: str = "bilinear"

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "ImageSpec":
        """Returns the images from the metadata of a checkpoint."""
        shape, mean, std = (tuple(raw[key]) for key in ("shape", "mean", "std"))
        rest = {key: raw[key] for key in ("shorter_side", "interpolation") if key in raw}
        return cls(shape, mean, std, **rest)


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Converts images of one specification to another.

    The standardisation is undone, images of another shape are resized (antialiased) and cut, grey ones are repeated
    over three channels and coloured ones made grey by their luminance, and then standardised anew. Differentiable.

    Attributes:
        data: the images that it is called with.
        wanted: the images that it returns.
    """

    data: ImageSpec
    wanted: ImageSpec

    def __post_init__(self) -> None:
        channels = self.data.shape[-1], self.wanted.shape[-1]
        if channels[0] != channels[1] and sorted(channels) != [1, 3]:
            raise UserError(f"channels must be 1 or 3 to be converted, got {channels[0]} to {channels[1]}")

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns `[batch, *wanted.shape]` from `[batch, *data.shape]`, float32."""
        x = images * _row(self.data.std) + _row(self.data.mean)
        if self.data.shape[:2] != self.wanted.shape[:2]:
            x = self._resize(x)
        if x.shape[-1] == 3 and self.wanted.shape[-1] == 1:
            x = jnp.sum(x * _row(LUMINANCE), -1, keepdims=True)
        x = jnp.broadcast_to(x, (*x.shape[:-1], self.wanted.shape[-1]))
        return (x - _row(self.wanted.mean)) / _row(self.wanted.std)

    def _resize(self, images: jax.Array) -> jax.Array:
        """Resizes images, and cuts out their centre as torchvision does if the shorter side is set."""
        wanted, side = self.wanted.shape[:2], self.wanted.shorter_side
        size = wanted
        if side:
            shorter = min(self.data.shape[:2])
            lengths = zip(self.data.shape[:2], wanted, strict=True)
            size = tuple(max(side * length // shorter, least) for length, least in lengths)
        method = {"bicubic": "cubic"}.get(self.wanted.interpolation, self.wanted.interpolation)
        rows, columns = (_resizing(*lengths, method) for lengths in zip(self.data.shape[:2], size, strict=True))
        images = jnp.einsum("rh,cw,nhwk->nrck", rows, columns, images, precision=jax.lax.Precision.HIGHEST)
        top, left = (round((length - part) / 2) for length, part in zip(size, wanted, strict=True))
        return images[:, top : top + wanted[0], left : left + wanted[1]]


def preprocess(data: ImageSpec, wanted: ImageSpec) -> Preprocess | None:
    """Returns the conversion of images to other ones; `None` if they are the same."""
    same = data.shape == wanted.shape and all(
        len(left) == len(right) and np.allclose(left, right, rtol=1e-6, atol=0)
        for left, right in ((data.mean, wanted.mean), (data.std, wanted.std))
    )
    return None if same else Preprocess(data, wanted)


@functools.cache
def _resizing(length: int, wanted: int, method: str) -> np.ndarray:
    """Returns the matrix `[wanted, length]` that resizes one axis of images, which every format of exports has."""
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.image.resize(jnp.eye(length), (wanted, length), method, antialias=True))


def _row(numbers: tuple[float, ...]) -> np.ndarray:
    return np.asarray(numbers, np.float32).reshape(1, 1, 1, -1)
