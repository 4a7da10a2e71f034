"""Learned maps from the student's shape to its target's: nobody types a number of channels.

They are made inside a method's `nn.compact` call, so that their params are the method's.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.errors import UserError
from jaxdistill.losses import spatial


def match(x: jax.Array, target: jax.Array, name: str, size: int = 1) -> jax.Array:
    """Maps `x` linearly to the channels of `target` and brings it to its height, width or kind.

    Args:
        x: `[batch, height, width, channels]`, `[batch, tokens, width]` or `[batch, width]`.
        target: the same, of another size; a map may meet tokens and tokens a map (a class token must be cut off).
        name: of the adapter's params.
        size: of the convolution's kernel.

    Returns:
        An array of the shape of `target`.

    Raises:
        UserError: where one is a vector and the other is not.
    """
    channels = target.shape[-1]
    if x.ndim == 3 and target.ndim == 4:
        x = to_grid(x)
    if x.ndim == 4 and target.ndim in (3, 4):
        x = conv(channels, size, name=name)(x)
        return to_tokens(x, target.shape[1]) if target.ndim == 3 else fit(x, target.shape[1:3])
    if x.ndim != target.ndim or x.shape[:-1] != target.shape[:-1]:
        raise UserError(
            f"adapter {name!r} cannot map {list(x.shape)} to {list(target.shape)}; name layers of the same kind, both"
            " with space or tokens or both pooled"
        )
    return nn.Dense(channels, name=name)(x)


def conv(channels: int, size: int, *, name: str, bias: bool = True) -> nn.Conv:
    """A `size` x `size` convolution that keeps height and width."""
    return nn.Conv(channels, (size, size), padding="SAME", use_bias=bias, name=name)


def norm(x: jax.Array, mask: jax.Array, *, name: str, train: bool = True) -> jax.Array:
    """Batch normalisation over the examples that count.

    Args:
        x: `[batch, ..., channels]`.
        mask: `[batch]`; examples that do not count do not move the statistics.
        train: whether to normalise by the batch, or by the running statistics.
    """
    mask = jnp.where(jnp.any(mask > 0), mask > 0, True)  # the mean of nothing is not a number
    mask = mask.reshape(-1, *[1] * (x.ndim - 1))
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)(x, mask=mask)


def fit(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Brings a map to a size: averages where it is larger, interpolates where it is smaller."""
    smaller = tuple(min(have, want) for have, want in zip(x.shape[1:3], size, strict=True))
    return spatial.resize(spatial.average_pool(x, smaller), size)


def convolutions(
    x: jax.Array,
    widths: Sequence[int],
    *,
    name: str,
    mask: jax.Array | None = None,
    normed: bool = False,
    train: bool = True,
) -> jax.Array:
    """One 3 x 3 convolution and leaky ReLU (slope 0.1) for each of `widths`: half of factor transfer's autoencoder.

    Args:
        x: `[batch, height, width, channels]`; height and width are kept.
        name: what the names of the params begin with.
        mask: `[batch]`, the examples that count for batch normalisation, which `normed` puts before each ReLU.
    """
    for index, width in enumerate(widths):
        x = conv(width, 3, name=f"{name}_conv{index}")(x)
        if normed:
            counts = jnp.ones(x.shape[0]) if mask is None else mask
            x = norm(x, counts, name=f"{name}_norm{index}", train=train)
        x = nn.leaky_relu(x, 0.1)
    return x


def to_grid(x: jax.Array) -> jax.Array:
    """Folds tokens `[batch, side * side, width]` into a map `[batch, side, side, width]`; a map stays as it is."""
    if x.ndim == 4:
        return x
    if x.ndim != 3:
        raise UserError(f"{list(x.shape)} has no places to compare; name layers that are maps or tokens")
    side = math.isqrt(x.shape[1])
    if side * side != x.shape[1]:
        raise UserError(f"{x.shape[1]} tokens are no square of patches; cut off the class token first")
    return x.reshape(x.shape[0], side, side, x.shape[2])


def to_tokens(x: jax.Array, tokens: int) -> jax.Array:
    """Unfolds a map `[batch, height, width, channels]` into `[batch, tokens, channels]`, a square number of them."""
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise UserError(f"{tokens} tokens are no square of patches; cut off the class token first")
    return fit(x, (side, side)).reshape(x.shape[0], tokens, x.shape[3])
