"""Preprocessing of images for networks that expect others than those of the data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import LUMINANCE
from jaxdistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The images that a network expects: their `shape`, and mean and standard deviation by channel."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Converts images of one specification to another.

    The standardisation is undone, images are resized (bilinear, antialiased), grey ones are repeated over three
    channels and coloured ones made grey by their luminance, and then standardised anew. Differentiable.

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
            x = jax.image.resize(x, (x.shape[0], *self.wanted.shape[:2], x.shape[-1]), "bilinear", antialias=True)
        if x.shape[-1] == 3 and self.wanted.shape[-1] == 1:
            x = jnp.sum(x * _row(LUMINANCE), -1, keepdims=True)
        x = jnp.broadcast_to(x, (*x.shape[:-1], self.wanted.shape[-1]))
        return (x - _row(self.wanted.mean)) / _row(self.wanted.std)


def preprocess(data: ImageSpec, wanted: ImageSpec) -> Preprocess | None:
    """Returns the conversion of images to other ones; `None` if they are the same."""
    same = data.shape == wanted.shape and all(
        len(left) == len(right) and np.allclose(left, right, rtol=1e-6, atol=0)
        for left, right in ((data.mean, wanted.mean), (data.std, wanted.std))
    )
    return None if same else Preprocess(data, wanted)


def _row(numbers: tuple[float, ...]) -> np.ndarray:
    return np.asarray(numbers, np.float32).reshape(1, 1, 1, -1)
