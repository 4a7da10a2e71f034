"""Divergences from mixtures of two distributions, exact and finite for any share of either, 0 and 1 among them.

With m = (1 - s) p + s q, u = log q - log p and w = s (e^u - 1), so that log(m / p) = log(1 + w),

    KL(p || m) / s = sum_k (q_k - p_k) [1 - log(1 + w_k) / w_k]

since q - p adds up to 0. No term is negative, none cancels another, and none becomes large as s goes to 0, where a
difference of almost equal logarithms would be divided by almost nothing.
"""

import jax
import jax.numpy as jnp

from jaxdistill.losses.divergence import log_probabilities

LARGEST = 80.0
"""Of u: e^80 is finite in float32, and a class so much less likely in p than in q adds q - p whatever s is."""

SMALL = 0.02
"""Below it 1 - log(1 + w) / w is its series, which is exact to 1e-15 there."""


def kl(left: jax.Array, right: jax.Array, share: jax.Array | float) -> jax.Array:
    """KL(p || (1 - share) p + share q): at share 1 the KL of p and q, at share 0 nothing.

    Args:
        left: logits of p, `[*n, classes]`.
        right: logits of q, the same.
        share: between 0 and 1; may be traced.

    Returns:
        `[*n]`, nats, at most -log(1 - share).
    """
    return share * kl_per_share(left, right, share)


def kl_per_share(left: jax.Array, right: jax.Array, share: jax.Array | float) -> jax.Array:
    """KL(p || (1 - share) p + share q) / share: continuous, at share 0 it is its limit 0."""
    return _per_share(log_probabilities(left), log_probabilities(right), share)


def jensen_shannon(
    teacher: jax.Array, student: jax.Array, beta: jax.Array | float, normalize: bool = False
) -> jax.Array:
    """beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q.

    Args:
        teacher: logits of P, `[*n, classes]`.
        student: logits of Q, the same.
        beta: between 0 and 1; may be traced.
        normalize: whether to divide by beta (1 - beta), which makes the limits KL(P || Q) at beta 0 and KL(Q || P) at
            beta 1; they are 0 otherwise.

    Returns:
        `[*n]`, nats; at most log 2 at beta 1/2 where it is not normalised.
    """
    log_p, log_q = log_probabilities(teacher), log_probabilities(student)
    value = _per_share(log_p, log_q, 1 - beta) + _per_share(log_q, log_p, beta)
    return value if normalize else beta * (1 - beta) * value


@jax.checkpoint  # its backward pass keeps two arrays of classes, and not twenty
def _per_share(log_p: jax.Array, log_q: jax.Array, share: jax.Array | float) -> jax.Array:
    share = jnp.asarray(share, log_p.dtype)
    p, q, u = jnp.exp(log_p), jnp.exp(log_q), log_q - log_p
    w = share * jnp.expm1(jnp.minimum(u, LARGEST))
    # Where the mixture keeps less than half of p, 1 + w may round to 0: there log(m / p) is taken in log-space.
    far = w < -0.5
    log_ratio = _log_mixture(jnp.where(far, u, 0.0), jnp.where(far, share, 1.0))
    away = (q - p) - p * log_ratio / jnp.where(far, share, 1.0)
    return jnp.sum(jnp.where(far, away, (q - p) * _lack(jnp.where(far, 0.0, w))), -1)


def _log_mixture(u: jax.Array, share: jax.Array) -> jax.Array:
    """log(1 - share + share e^u), for shares above 0."""
    return jnp.logaddexp(jnp.log1p(-share), jnp.log(share) + u)


def _lack(w: jax.Array) -> jax.Array:
    """1 - log(1 + w) / w: what the ratio lacks to 1; 0 at 0, where it grows as w / 2."""
    small = jnp.abs(w) < SMALL
    near, rest = jnp.where(small, w, 0.0), jnp.where(small, 1.0, w)
    series = jnp.zeros_like(w)
    for power in range(9, 0, -1):  # w/2 - w^2/3 + w^3/4 - ...
        series = near * (1 / (power + 1) - series)
    return jnp.where(small, series, 1 - jnp.log1p(rest) / rest)
