"""Feature maps brought to the same size."""

import jax
import jax.numpy as jnp
import numpy as np


def _windows(length: int, wanted: int) -> np.ndarray:
    """`[length, wanted]`: output i of n averages what lies in [floor(i L / n), ceil((i + 1) L / n))."""
    place, out = np.arange(length)[:, None], np.arange(wanted)[None]
    inside = (place >= out * length // wanted) & (place < -((out + 1) * length // -wanted))
    return inside / inside.sum(0)


def average_pool(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Adaptive average pooling: `[batch, height, width, channels]` to `[batch, *size, channels]`.

    Two small matrix products, one for each axis, for any pair of sizes; PyTorch's `adaptive_avg_pool2d`.
    """
    if x.shape[1:3] == tuple(size):
        return x
    rows, columns = (jnp.asarray(_windows(have, want), x.dtype) for have, want in zip(x.shape[1:3], size, strict=True))
    return jnp.einsum("bhwc,hi,wj->bijc", x, rows, columns, precision="highest")


def max_pool(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Adaptive max pooling, over the windows of `average_pool`: to `[batch, *size, channels]`."""
    for axis, wanted in zip((1, 2), size, strict=True):
        length = x.shape[axis]
        if length % wanted == 0:
            x = jnp.max(x.reshape(*x.shape[:axis], wanted, length // wanted, *x.shape[axis + 1 :]), axis + 1)
        else:
            windows = (np.flatnonzero(window) for window in _windows(length, wanted).T)
            parts = [jax.lax.slice_in_dim(x, window[0], window[-1] + 1, axis=axis) for window in windows]
            x = jnp.stack([jnp.max(part, axis) for part in parts], axis)
    return x


def to_smaller(left: jax.Array, right: jax.Array, pool=average_pool) -> tuple[jax.Array, jax.Array]:
    """Pools the larger of two maps, axis by axis, to the size of the smaller; by averages unless told."""
    size = tuple(min(a, b) for a, b in zip(left.shape[1:3], right.shape[1:3], strict=True))
    return pool(left, size), pool(right, size)


def resize(x: jax.Array, size: tuple[int, int], method: str = "bilinear") -> jax.Array:
    """Interpolates to `size` with half-pixel centres and no antialiasing, as PyTorch does; "nearest" as its `floor`."""
    if x.shape[1:3] == tuple(size):
        return x
    if method == "nearest":
        rows, columns = (np.arange(want) * have // want for have, want in zip(x.shape[1:3], size, strict=True))
        return x[:, rows][:, :, columns]
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), method, antialias=False)
