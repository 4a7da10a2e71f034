"""Batch normalisation whose derivative reads its input as few times as it can.

Ioffe & Szegedy, "Batch Normalization", ICML 2015, https://arxiv.org/abs/1502.03167. With x' = (x - mean) / std, and
means over batch and places,

    d loss / d x = scale / std (g - mean(g) - x' mean(g x'))     g = d loss / d y

The derivative of Linen's module has four sums over the batch: those through the mean and the variance are apart, and
one is always 0. This one has the two above, and the gradients of scale and bias are the same two.

The largest number of a window is the same before and after a normalisation, or the smallest one where the scale is
negative: what a pooling drops need not be normalised.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Map = Float[Array, "*places channels"]
Vector = Float[Array, " channels"]
Affine = tuple[Vector, Vector]
"""Scale and bias."""

Pool = Callable[[Map], Map]
"""Takes the largest number of each window of places."""


class BatchNorm(nn.BatchNorm):
    """Linen's module over the last axis, with scale and bias, by its names of variables and its outputs.

    Without a dtype these are in at least float32.
    """

    @nn.compact
    def __call__(self, x: Map, use_running_average: bool | None = None, pool: Pool | None = None) -> Map:
        """Returns the normalised map; with `pool` what this keeps of it."""
        use_running = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        channels = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(channels, jnp.float32))
        var = self.variable("batch_stats", "var", lambda: jnp.ones(channels, jnp.float32))
        scale = self.param("scale", self.scale_init, channels, self.param_dtype)
        bias = self.param("bias", self.bias_init, channels, self.param_dtype)
        affine, near, sign = (scale, bias), mean.value, jnp.ones(channels)
        if pool is not None:
            # The map itself is turned, and not what is pooled alone: the layer before then makes one map, and its sums.
            sign = jnp.where(scale < 0, -1.0, 1.0)
            x, affine, near = _turn(sign, x, affine, near)
        if use_running:
            y = _apply(_widen(_keep(x, pool)), (near, var.value), affine, self.epsilon)
        else:
            y, batch_mean, batch_var = normalize(x, affine, near, self.epsilon, pool=pool)
            if not self.is_initializing():
                mean.value = self.momentum * mean.value + (1 - self.momentum) * sign * batch_mean
                var.value = self.momentum * var.value + (1 - self.momentum) * batch_var
        return y if self.dtype is None else y.astype(self.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def normalize(
    x: Map, affine: Affine, near: Vector, epsilon: float, pool: Pool | None = None
) -> tuple[Map, Vector, Vector]:
    """Returns the normalised map in at least float32, and the mean and the variance of each channel.

    With `pool` the map is what this keeps of it, where the scale is not negative; mean and variance are of all places.

    Numbers of bfloat16 are read once for both, as differences from `near`, which makes no difference but in rounding
    and should be close to the mean: on a TPU their sums are then a part of the convolution before. Those of other types
    are read twice, since a mean that is far from `near` would cost digits that they have.
    """
    axes, reads_once = tuple(range(x.ndim - 1)), x.dtype == jnp.bfloat16
    largest, x = _keep(x, pool), _widen(x)
    if reads_once:
        difference = x - _spread(near, x)
        offset = jnp.mean(difference, axes)
        mean = near + offset
        var = jnp.maximum(jnp.mean(jnp.square(difference), axes) - jnp.square(offset), 0.0)
    else:
        mean = jnp.mean(x, axes)
        var = jnp.mean(jnp.square(x - _spread(mean, x)), axes)
    return _apply(_widen(largest), (mean, var), affine, epsilon), mean, var


@normalize.defjvp
def _derive(
    epsilon: float, pool: Pool | None, primals: tuple[Map, Affine, Vector], tangents: tuple[Map, Affine, Vector]
) -> tuple[tuple[Map, Vector, Vector], tuple[Map, Vector, Vector]]:
    (x, (scale, bias), near), (dx, (dscale, dbias), _) = primals, tangents
    axes = tuple(range(x.ndim - 1))
    y, mean, var = normalize(x, (scale, bias), near, epsilon, pool=pool)
    inverse = jax.lax.rsqrt(var + epsilon)
    factor = scale * inverse

    def scaled(x: Map) -> Map:
        return (_widen(x) - _spread(mean, x)) * _spread(inverse, x)

    wide = _widen(dx)
    direct = _spread(factor, x) * wide
    dmean, product = jnp.mean(wide, axes), jnp.mean(wide * scaled(x), axes)
    largest = x
    if pool is not None:
        largest, direct = jax.jvp(pool, (x,), (direct.astype(dx.dtype),))
        direct = _widen(direct)
    # The sums are multiplied after they are made, so that their transposes are sums of the gradient itself.
    dy = direct + _spread(dbias - factor * dmean, x) + scaled(largest) * _spread(dscale - factor * product, x)
    return (y, mean, var), (dy, dmean, 2 * product / inverse)


def _turn(sign: Vector, x: Map, affine: Affine, mean: Vector) -> tuple[Map, Affine, Vector]:
    """Returns the same normalisation with other signs of a map, of its scale, and of its mean."""
    return _spread(sign, x).astype(x.dtype) * x, (sign * affine[0], affine[1]), sign * mean


def _keep(x: Map, pool: Pool | None) -> Map:
    return x if pool is None else pool(x)


def _widen(x: Map) -> Map:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _apply(x: Map, statistics: tuple[Vector, Vector], affine: Affine, epsilon: float) -> Map:
    (mean, var), (scale, bias) = statistics, affine
    return (x - _spread(mean, x)) * _spread(jax.lax.rsqrt(var + epsilon) * scale, x) + _spread(bias, x)


def _spread(vector: Vector, x: Map) -> Map:
    return vector.reshape(*[1] * (x.ndim - 1), -1)
