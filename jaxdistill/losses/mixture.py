"""Divergences from mixtures of two distributions, exact and finite for any fraction of either, including 0 and 1.

With m = (1 - s) p + s q, u = log q - log p and w = s (e^u - 1), so that log(m / p) = log(1 + w),

    KL(p || m) / s = sum_k (q_k - p_k) [1 - log(1 + w_k) / w_k]

since q - p adds up to 0. No term is negative, none cancels another, and none becomes large as s goes to 0, where a
difference of almost equal logarithms would be divided by almost nothing.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxdistill.core import Scalar
from jaxdistill.losses.divergence import NEAR, Pair, excess, pair, weighted

LARGEST = 80.0
"""Bound of u: e^80 is finite in float32, and a class so much less likely in p than in q adds q - p whatever s is."""

SMALL = 0.5
"""Bound of |w| below which 1 - log(1 + w) / w is its series; beyond, a logarithm cancels none of its digits."""

TERMS = 7
"""Those of the series, which is exact to 1e-8 for |w| up to `SMALL`."""


def kl(left: Float[Array, "*n classes"], right: Float[Array, "*n classes"], fraction: Scalar) -> Float[Array, "*n"]:
    """Returns KL(p || (1 - fraction) p + fraction q): the KL of p and q at fraction 1, and 0 at fraction 0.

    Args:
        left: logits of p.
        right: logits of q.
        fraction: between 0 and 1; may be traced.

    Returns:
        Nats, at most -log(1 - fraction).
    """
    return fraction * kl_per_fraction(left, right, fraction)


def kl_per_fraction(
    left: Float[Array, "*n classes"], right: Float[Array, "*n classes"], fraction: Scalar
) -> Float[Array, "*n"]:
    """Returns `kl` / fraction, which is continuous; at fraction 0 it is its limit 0."""
    return _kl_per_fraction(left, right, fraction)


def jensen_shannon(
    teacher: Float[Array, "*n classes"], student: Float[Array, "*n classes"], beta: Scalar, normalize: bool = False
) -> Float[Array, "*n"]:
    """Returns beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q.

    Args:
        teacher: logits of P.
        student: logits of Q.
        beta: between 0 and 1; may be traced.
        normalize: whether to divide by beta (1 - beta), which makes the limits KL(P || Q) at beta 0 and KL(Q || P) at
            beta 1; they are 0 otherwise.

    Returns:
        Nats; at most log 2 at beta 1/2 if it is not normalised.
    """
    value = _sum_of_both(teacher, student, beta)
    # One of the two is infinite at beta 0 or 1 if a class is impossible on one side; its weight is 0 there.
    return value if normalize else weighted(jnp.asarray(beta * (1 - beta), value.dtype), value)


@jax.checkpoint  # its backward pass keeps two arrays of classes instead of twenty
def _kl_per_fraction(
    left: Float[Array, "*n classes"], right: Float[Array, "*n classes"], fraction: Scalar
) -> Float[Array, "*n"]:
    return jnp.sum(_terms(pair(left, right), fraction), -1)


def _both(left: Float[Array, "*n classes"], right: Float[Array, "*n classes"], beta: Scalar) -> Float[Array, "*n"]:
    sides = pair(left, right)
    return jnp.sum(_terms(sides, 1 - beta) + _terms(sides.swap(), beta), -1)


_sum_of_both = jax.custom_jvp(_both)


def _both_tangents(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    # By q the derivative is q_k (log(q_k / m_k) - KL(q || m)) / beta, in which no term cancels another.
    left, right, beta = primals
    sides, value = pair(left, right), _both(left, right, beta)
    tangent = jnp.zeros_like(value)
    for of, side, fraction in ((tangents[0], sides, 1 - beta), (tangents[1], sides.swap(), beta)):
        if not isinstance(of, SymbolicZero):
            terms = _finite_terms(side, fraction)
            slope = terms - side.difference
            # Differences add up to 0 but for the rounding of normalising sums, which would shift all logits.
            slope -= side.p * jnp.sum(slope, -1, keepdims=True)
            tangent += jnp.sum(slope * of, -1)
    if not isinstance(tangents[2], SymbolicZero):
        tangent += jax.jvp(functools.partial(_both, left, right), (beta,), (tangents[2],))[1]
    return value, tangent


_sum_of_both.defjvp(_both_tangents, symbolic_zeros=True)


def _terms(sides: Pair, fraction: Scalar) -> Float[Array, "*n classes"]:
    """Returns the summands of KL(p || m) / fraction; infinite for a class of p that is impossible in the mixture."""
    is_infinite = (jnp.asarray(fraction) >= 1) & (sides.p > 0) & ~sides.q_is_possible
    return jnp.where(is_infinite, jnp.inf, _finite_terms(sides, fraction))


def _finite_terms(sides: Pair, fraction: Scalar) -> Float[Array, "*n classes"]:
    """Returns the summands of classes that are possible in the mixture."""
    p, difference = sides.p, sides.difference
    fraction = jnp.asarray(fraction, p.dtype)
    is_whole, is_in_both = fraction >= 1, sides.p_is_possible & sides.q_is_possible
    u = sides.log_ratio
    near = jnp.where(jnp.abs(u) < NEAR, u, 0.0)
    growth = jnp.exp(jnp.minimum(u, LARGEST))
    # A class that q rules out has (1 - s) p in the mixture.
    w = jnp.where(is_in_both, fraction * jnp.where(near == u, near + excess(near), growth - 1), -fraction)
    is_small = jnp.abs(w) < SMALL
    # m / p by itself: where the mixture keeps little of p, 1 + w would lose its digits.
    ratio = (1 - fraction) + jnp.where(is_in_both, fraction * growth, 0.0)
    log_ratio = jnp.where(is_whole, u, jnp.log(jnp.where(is_small | is_whole, 1.0, ratio)))
    large = difference - p * log_ratio / jnp.where(is_small, 1.0, fraction)
    small = difference * _deficit(jnp.where(is_small, w, 0.0))
    # A class that p rules out adds q, however small the fraction is.
    return jnp.where(sides.p_is_possible, jnp.where(is_small, small, large), difference)


def _deficit(w: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns 1 - log(1 + w) / w for |w| up to `SMALL`; 0 at 0, where it grows as w / 2.

    log(1 + w) = 2 artanh(y) with y = w / (2 + w), whose series has odd powers only.
    """
    square = jnp.square(w / (2 + w))
    series = jnp.zeros_like(w)
    for power in range(2 * TERMS + 1, 1, -2):
        series = square * (1 / power + series)
    return (w - 2 * series) / (2 + w)
