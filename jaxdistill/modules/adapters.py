"""Adapters: learned maps from the student's shape to its target's, whose widths are read off both.

They are created inside a method's `nn.compact` call, so that their params are the method's.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxdistill.errors import UserError
from jaxdistill.losses import spatial


def match(
    x: Float[Array, " batch *source"], target: Float[Array, " batch *target"], name: str, size: int = 1
) -> Float[Array, " batch *target"]:
    """Maps `x` linearly to the channels of `target`, and resizes it to its height, width or kind.

    Args:
        x: `[batch, height, width, channels]`, `[batch, tokens, width]` or `[batch, width]`.
        target: the same, of another size; a map may be matched with tokens and vice versa (without a class token).
        name: of the adapter's params.
        size: of the convolution's kernel.

    Returns:
        An array of the shape of `target`.

    Raises:
        UserError: if one is a vector and the other is not.
    """
    channels = target.shape[-1]
    if x.ndim == 3 and target.ndim == 4:
        x = to_grid(x)
    if x.ndim == 4 and target.ndim in (3, 4):
        x = conv(channels, size, name=name)(x)
        return to_tokens(x, target.shape[1]) if target.ndim == 3 else resize(x, (target.shape[1], target.shape[2]))
    if x.ndim != target.ndim or x.shape[:-1] != target.shape[:-1]:
        raise UserError(
            f"adapter {name!r} must have layers of one kind, both maps or tokens or both pooled, got {list(x.shape)}"
            f" and {list(target.shape)}"
        )
    return nn.Dense(channels, name=name)(x)


def conv(channels: int, size: int, *, name: str, bias: bool = True) -> nn.Conv:
    """Returns a `size` x `size` convolution that keeps height and width."""
    return nn.Conv(channels, (size, size), padding="SAME", use_bias=bias, name=name)


def norm(
    x: Float[Array, " batch *shape"], mask: Shaped[Array, " batch"], *, name: str, train: bool = True
) -> Float[Array, " batch *shape"]:
    """Applies batch normalisation over the examples that count.

    Args:
        x: `[batch, ..., channels]`.
        mask: examples with 0 do not move the statistics.
        name: of the params.
        train: whether to normalise by the batch, or by the running statistics.
    """
    mask = jnp.where(jnp.any(mask > 0), mask > 0, True)  # the mean of nothing is not a number
    mask = mask.reshape(-1, *[1] * (x.ndim - 1))
    # The fast variance, the mean of squares less the square of the mean, cancels where the mean is large.
    layer = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, use_fast_variance=False, name=name)
    return layer(x, mask=mask)


def resize(
    x: Float[Array, "batch height width channels"], size: tuple[int, int]
) -> Float[Array, "batch new_height new_width channels"]:
    """Resizes a map: averages along axes that are larger, interpolates along smaller ones."""
    smaller = (min(x.shape[1], size[0]), min(x.shape[2], size[1]))
    return spatial.resize(spatial.average_pool(x, smaller), size)


def convolutions(
    x: Float[Array, "batch height width channels"],
    widths: Sequence[int],
    *,
    name: str,
    mask: Shaped[Array, " batch"] | None = None,
    normed: bool = False,
    train: bool = True,
) -> Float[Array, "batch height width new_channels"]:
    """Applies a 3 x 3 convolution and leaky ReLU (slope 0.1) per width: half of factor transfer's autoencoder.

    Args:
        x: a map.
        widths: channels of each convolution.
        name: prefix of the names of the params.
        mask: above 0 for the examples that count in batch normalisation.
        normed: whether batch normalisation comes before each ReLU.
        train: whether it normalises by the batch.
    """
    for index, width in enumerate(widths):
        x = conv(width, 3, name=f"{name}_conv{index}")(x)
        if normed:
            counts = jnp.ones(x.shape[0]) if mask is None else mask
            x = norm(x, counts, name=f"{name}_norm{index}", train=train)
        x = nn.leaky_relu(x, 0.1)
    return x


def to_grid(x: Float[Array, " batch *shape"]) -> Float[Array, "batch height width channels"]:
    """Folds tokens `[batch, side * side, width]` into a map; a map is unchanged."""
    if x.ndim == 4:
        return x
    if x.ndim != 3:
        raise UserError(f"layers must be maps or tokens, got {list(x.shape)}")
    side = math.isqrt(x.shape[1])
    if side * side != x.shape[1]:
        raise UserError(f"tokens must be a square of patches, got {x.shape[1]}. Remove the class token first.")
    return x.reshape(x.shape[0], side, side, x.shape[2])


def to_tokens(x: Float[Array, "batch height width channels"], tokens: int) -> Float[Array, "batch tokens channels"]:
    """Resizes a map to a square number of tokens."""
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise UserError(f"tokens must be a square of patches, got {tokens}. Remove the class token first.")
    return resize(x, (side, side)).reshape(x.shape[0], tokens, x.shape[3])
