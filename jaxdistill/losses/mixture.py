"""Divergences from mixtures of two distributions, exact and finite for any fraction of either, including 0 and 1.

With m = (1 - s) p + s q, u = log q - log p and w = s (e^u - 1), so that log(m / p) = log(1 + w),

    KL(p || m) / s = sum_k (q_k - p_k) [1 - log(1 + w_k) / w_k]

since q - p adds up to 0. No term is negative, none cancels another, and none becomes large as s goes to 0, where a
difference of almost equal logarithms would be divided by almost nothing.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Scalar
from jaxdistill.losses.divergence import Pair, pair, weighted

LARGEST = 80.0
"""Bound of u: e^80 is finite in float32, and a class so much less likely in p than in q adds q - p whatever s is."""

SMALL = 0.02
"""Below it 1 - log(1 + w) / w is its series, which is exact to 1e-15 there."""


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
    return _per_fraction(pair(left, right), fraction)


@jax.checkpoint
def _sum_of_both(
    left: Float[Array, "*n classes"], right: Float[Array, "*n classes"], beta: Scalar
) -> Float[Array, "*n"]:
    sides = pair(left, right)
    return _per_fraction(sides, 1 - beta) + _per_fraction(sides.swap(), beta)


def _per_fraction(sides: Pair, fraction: Scalar) -> Float[Array, "*n"]:
    p, u, difference = sides.p, sides.log_ratio, sides.difference
    fraction = jnp.asarray(fraction, p.dtype)
    is_whole = fraction >= 1
    is_in_both = sides.p_is_possible & sides.q_is_possible
    # A class that q rules out has (1 - s) p in the mixture, so w = -s, and is infinitely far if nothing of p is left.
    w = jnp.where(is_in_both, fraction * jnp.expm1(jnp.minimum(u, LARGEST)), jnp.where(is_whole, 0.0, -fraction))
    # If the mixture keeps less than half of p, 1 + w may round to 0: there log(m / p) is computed in log-space.
    is_far = is_in_both & (w < -0.5)
    log_ratio = _log_mixture(jnp.where(is_far, u, 0.0), jnp.where(is_far, fraction, 1.0))
    far = difference - p * log_ratio / jnp.where(is_far, fraction, 1.0)
    # A class that p rules out adds q, however small the fraction is.
    deficit = jnp.where(sides.p_is_possible, _ratio_deficit(jnp.where(is_far, 0.0, w)), 1.0)
    is_infinite = is_whole & jnp.any((p > 0) & ~sides.q_is_possible, -1)
    return jnp.where(is_infinite, jnp.inf, jnp.sum(jnp.where(is_far, far, difference * deficit), -1))


def _log_mixture(u: Float[Array, "*n"], fraction: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns log(1 - fraction + fraction e^u), for fractions above 0."""
    return jnp.logaddexp(jnp.log1p(-fraction), jnp.log(fraction) + u)


def _ratio_deficit(w: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns 1 - log(1 + w) / w; 0 at 0, where it grows as w / 2."""
    is_small = jnp.abs(w) < SMALL
    small, large = jnp.where(is_small, w, 0.0), jnp.where(is_small, 1.0, w)
    series = jnp.zeros_like(w)
    for power in range(9, 0, -1):  # w/2 - w^2/3 + w^3/4 - ...
        series = small * (1 / (power + 1) - series)
    return jnp.where(is_small, series, 1 - jnp.log1p(large) / large)
