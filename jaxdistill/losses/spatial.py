"""Pooling and resizing of feature maps to a common size."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

Size = tuple[int, int]


def _windows(length: int, wanted: int) -> np.ndarray:
    """Returns `[length, wanted]`: output i of n averages positions in [floor(i L / n), ceil((i + 1) L / n))."""
    position, out = np.arange(length)[:, None], np.arange(wanted)[None]
    inside = (position >= out * length // wanted) & (position < -((out + 1) * length // -wanted))
    return inside / inside.sum(0)


def average_pool(
    x: Float[Array, "batch height width channels"], size: Size
) -> Float[Array, "batch new_height new_width channels"]:
    """Returns the adaptive average pooling to a size, PyTorch's `adaptive_avg_pool2d`.

    It is two small matrix products, one for each axis, for any pair of sizes.
    """
    if x.shape[1:3] == tuple(size):
        return x
    rows, columns = (jnp.asarray(_windows(have, want), x.dtype) for have, want in zip(x.shape[1:3], size, strict=True))
    return jnp.einsum("bhwc,hi,wj->bijc", x, rows, columns, precision="highest")


def average_blocks(
    x: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch new_height new_width channels"]:
    """Averages blocks of `size` x `size` places that do not overlap.

    The last ones of a side that `size` does not divide have fewer places.
    """

    def blocks(length: int) -> Array:
        inside = np.arange(length)[:, None] // size == np.arange(-(-length // size))[None]
        return jnp.asarray(inside / inside.sum(0), x.dtype)

    return jnp.einsum("bhwc,hi,wj->bijc", x, blocks(x.shape[1]), blocks(x.shape[2]), precision="highest")


def max_pool(
    x: Float[Array, "batch height width channels"], size: Size
) -> Float[Array, "batch new_height new_width channels"]:
    """Returns the adaptive max pooling over the windows of `average_pool`."""
    for axis, wanted in zip((1, 2), size, strict=True):
        length = x.shape[axis]
        if length % wanted == 0:
            x = jnp.max(x.reshape(*x.shape[:axis], wanted, length // wanted, *x.shape[axis + 1 :]), axis + 1)
        else:
            windows = (np.flatnonzero(window) for window in _windows(length, wanted).T)
            parts = [jax.lax.slice_in_dim(x, window[0], window[-1] + 1, axis=axis) for window in windows]
            x = jnp.stack([jnp.max(part, axis) for part in parts], axis)
    return x


def to_smaller(
    left: Float[Array, "batch left_height left_width left_channels"],
    right: Float[Array, "batch right_height right_width right_channels"],
    pool: Callable[[Array, Size], Array] = average_pool,
) -> tuple[Float[Array, "batch height width left_channels"], Float[Array, "batch height width right_channels"]]:
    """Pools the larger of two maps, axis by axis, to the size of the smaller."""
    size = (min(left.shape[1], right.shape[1]), min(left.shape[2], right.shape[2]))
    return pool(left, size), pool(right, size)


def resize(
    x: Shaped[Array, "batch height width *channels"], size: Size, method: str = "bilinear"
) -> Shaped[Array, "batch new_height new_width *channels"]:
    """Interpolates to a size with half-pixel centres and no antialiasing, as PyTorch; "nearest" as its `floor`."""
    if x.shape[1:3] == tuple(size):
        return x
    if method == "nearest":
        rows, columns = (np.arange(want) * have // want for have, want in zip(x.shape[1:3], size, strict=True))
        return x[:, rows][:, :, columns]
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), method, antialias=False)
