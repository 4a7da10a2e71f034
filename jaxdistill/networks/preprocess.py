"""What a network does to images before it looks at them, where they are not those that it was made for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import LUMINANCE
from jaxdistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The images that a network was made for: their `shape`, and per channel what they are standardised by."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Makes images that are standardised and shaped as `there` those that a network expects, `wanted`.

    The standardisation is undone, images are resized (bilinear, antialiased), grey ones are repeated over three
    channels and coloured ones made grey by their luminance, and then standardised as wanted. Differentiable.
    """

    there: ImageSpec
    wanted: ImageSpec

    def __post_init__(self):
        channels = self.there.shape[-1], self.wanted.shape[-1]
        if channels[0] != channels[1] and sorted(channels) != [1, 3]:
            raise UserError(f"images of {channels[0]} channels cannot be made images of {channels[1]}; 1 and 3 can")

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns `[batch, *wanted.shape]` from `[batch, *there.shape]`, float32."""
        x = images * _row(self.there.std) + _row(self.there.mean)
        if self.there.shape[:2] != self.wanted.shape[:2]:
            x = jax.image.resize(x, (x.shape[0], *self.wanted.shape[:2], x.shape[-1]), "bilinear", antialias=True)
        if x.shape[-1] == 3 and self.wanted.shape[-1] == 1:
            x = jnp.sum(x * _row(LUMINANCE), -1, keepdims=True)
        x = jnp.broadcast_to(x, (*x.shape[:-1], self.wanted.shape[-1]))
        return (x - _row(self.wanted.mean)) / _row(self.wanted.std)


def preprocess(there: ImageSpec, wanted: ImageSpec) -> Preprocess | None:
    """Returns what makes images as wanted of those that are there; `None` where they are the same."""
    same = there.shape == wanted.shape and all(
        len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=1e-6, atol=0)
        for ours, theirs in ((there.mean, wanted.mean), (there.std, wanted.std))
    )
    return None if same else Preprocess(there, wanted)


def _row(numbers: tuple[float, ...]) -> np.ndarray:
    return np.asarray(numbers, np.float32).reshape(1, 1, 1, -1)
