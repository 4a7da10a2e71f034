"""Values on a uniform grid of integers, with gradients through the rounding.

    q = clip(round(x / scale) + zero, lowest, highest)        x' = scale (q - zero)

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
https://arxiv.org/abs/1712.05877, equation 1 and section 3. A symmetric grid has zero = 0 and as many integers below 0
as above; an affine one reaches from the smallest to the largest value. Both contain the number 0, so that a value that
a mask removed stays 0.

The gradient by x is that of x' = x, and 0 for a value that was clipped ("straight-through": Bengio, Leonard &
Courville, 2013, https://arxiv.org/abs/1308.3432). The gradient by a learned scale ("step") is that of Esser et al.,
"Learned Step Size Quantization", ICLR 2020, https://arxiv.org/abs/1902.08153, equations 2 to 5.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

TINY = float(jnp.finfo(jnp.float32).tiny)
"""The smallest scale: below it a quotient by the scale is not finite."""

Axes = tuple[int, ...]


class Grid(NamedTuple):
    """A uniform grid of numbers: `scale * (q - zero)` for integers q.

    Attributes:
        scale: float32, above 0, of a shape that broadcasts with the values.
        zero: the integer of the number 0, as float32 of the shape of `scale`.
    """

    scale: jax.Array
    zero: jax.Array


class Limits(NamedTuple):
    """The smallest and the largest integer of a grid."""

    lowest: int
    highest: int


def integer_limits(bits: int, symmetric: bool = True) -> Limits:
    """Returns the integers of so many bits: -127 to 127, or -128 to 127 if not symmetric."""
    half = 2 ** (bits - 1)
    return Limits(1 - half if symmetric else -half, half - 1)


def value_range(x: jax.Array, axes: Axes, percentile: float = 100.0) -> tuple[jax.Array, jax.Array]:
    """Returns the smallest and largest value over `axes`, which are kept with length 1.

    Args:
        x: values.
        axes: to reduce over.
        percentile: a number below 100 leaves out the values beyond that percentile on both sides.
    """
    x = x.astype(jnp.float32)
    if percentile >= 100:
        return jnp.min(x, axes, keepdims=True), jnp.max(x, axes, keepdims=True)
    # A value of the array, without interpolation, is the same number in every program.
    order = functools.partial(jnp.percentile, x, axis=axes, method="nearest", keepdims=True)
    return order(100 - percentile), order(percentile)


def symmetric_range(x: jax.Array, axes: Axes, percentile: float = 100.0) -> tuple[jax.Array, jax.Array]:
    """Returns minus and plus the largest magnitude over `axes`, or that of a percentile."""
    high = value_range(jnp.abs(x), axes, percentile)[1]
    return -high, high


def grid_of_range(low: jax.Array, high: jax.Array, bits: int, symmetric: bool = True) -> Grid:
    """Returns the grid whose integers cover a range, and the number 0.

    Args:
        low: smallest value.
        high: largest value.
        bits: of an integer.
        symmetric: whether the grid covers as much below 0 as above; it has no `zero` then.
    """
    lowest, highest = integer_limits(bits, symmetric)
    # XLA may replace a division by a constant, but not a product: the scale is the same number in every program.
    if symmetric:
        scale = jnp.maximum(-low, high) * (1 / highest)
        return Grid(jnp.where(scale < TINY, 1.0, scale), jnp.zeros_like(scale))
    low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
    scale = (high - low) * (1 / (highest - lowest))
    scale = jnp.where(scale < TINY, 1.0, scale)
    return Grid(scale, lowest - jnp.round(low / scale))


def fit_grid(x: jax.Array, axes: Axes, bits: int, *, symmetric: bool = True, percentile: float = 100.0) -> Grid:
    """Returns the grid of the range of values over `axes`; an array of zeros has a scale of 1."""
    low, high = (symmetric_range if symmetric else value_range)(x, axes, percentile)
    return grid_of_range(low, high, bits, symmetric)


def to_integers(x: jax.Array, grid: Grid, limits: Limits) -> jax.Array:
    """Returns the nearest integers of the grid, as whole floats."""
    return jnp.clip(jnp.round(x.astype(jnp.float32) / grid.scale) + grid.zero, *limits)


def from_integers(q: jax.Array, grid: Grid) -> jax.Array:
    """Returns the numbers of integers of a grid, float32."""
    return (q.astype(jnp.float32) - grid.zero.astype(jnp.float32)) * grid.scale


@jax.custom_jvp
def straight_through(x: jax.Array, replaced: jax.Array, passing: jax.Array | bool = True) -> jax.Array:
    """Returns `replaced`, with the gradient of `x` where `passing` is true, and none elsewhere."""
    return replaced.astype(x.dtype)


@straight_through.defjvp
def _straight_through_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    return straight_through(*primals), tangents[0] * jnp.asarray(primals[2], tangents[0].dtype)


def fake_quantize(x: jax.Array, grid: Grid, limits: Limits) -> jax.Array:
    """Rounds values to a grid, in their dtype; the gradient passes where no value is clipped, and the grid has none."""
    q = jnp.round(x.astype(jnp.float32) / grid.scale) + grid.zero
    inside = (q >= limits.lowest) & (q <= limits.highest)
    return straight_through(x, from_integers(to_integers(x, grid, limits), grid), inside)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def learned_step(x: jax.Array, grid: Grid, limits: Limits, count: int) -> jax.Array:
    """Rounds values to a grid with a learned scale ("step"); its gradient is LSQ's.

    With v = x / scale, n = lowest - zero and p = highest - zero, the gradient by the scale is, times 1 / sqrt(count p),

        round(v) - v  if n < v < p,    n  if v <= n,    p  if v >= p.

    Args:
        x: values.
        grid: its `zero` has no gradient.
        limits: of the integers.
        count: number of values that share a scale: of a layer's weights, or of an example's activations.
    """
    return fake_quantize(x, grid, limits)


@learned_step.defjvp
def _learned_step_jvp(
    limits: Limits, count: int, primals: tuple[jax.Array, Grid], tangents: tuple[jax.Array, Grid]
) -> tuple[jax.Array, jax.Array]:
    x, grid = primals
    v = x.astype(jnp.float32) / grid.scale
    lowest, highest = limits.lowest - grid.zero, limits.highest - grid.zero
    inside = (v > lowest) & (v < highest)
    slope = jnp.where(inside, jnp.round(v) - v, jnp.clip(v, lowest, highest))
    slope = slope * jax.lax.rsqrt(count * jnp.maximum(highest, 1.0))
    change = tangents[0] * inside.astype(x.dtype) + (slope * tangents[1].scale).astype(x.dtype)
    return learned_step(x, grid, limits, count), change


def first_step(magnitude: jax.Array, highest: jax.Array) -> jax.Array:
    """Returns LSQ's first scale, `2 mean |x| / sqrt(highest)`, of the mean magnitude of values; 1 if that is 0."""
    step = 2 * magnitude.astype(jnp.float32) * jax.lax.rsqrt(jnp.maximum(highest, 1.0))
    return jnp.where(step < TINY, 1.0, step)
