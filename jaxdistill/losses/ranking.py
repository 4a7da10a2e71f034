"""Whether the student puts the classes in its teacher's order, pair by pair.

Pairs are the last two axes, `[*n, classes, classes]`: entry (k, l) is about class k before class l.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import precise


def gaps(scores: jax.Array) -> jax.Array:
    """Returns scores_k - scores_l: `[*n, classes]` to `[*n, classes, classes]`."""
    scores = precise(scores)
    return scores[..., :, None] - scores[..., None, :]


def order(teacher: jax.Array) -> jax.Array:
    """Returns where the teacher scores k above l, bool; neither of two equal ones is above the other."""
    return teacher[..., :, None] > teacher[..., None, :]


def hinge(student: jax.Array, margin: jax.Array | float) -> jax.Array:
    """max(0, margin - (score_k - score_l)); a margin for each pair may be the teacher's own gap."""
    return jax.nn.relu(margin - gaps(student))


def logistic(student: jax.Array) -> jax.Array:
    """log(1 + exp(-(score_k - score_l))): RankNet's."""
    return jax.nn.softplus(-gaps(student))


def mean(losses: jax.Array, order: jax.Array) -> jax.Array:
    """Averages the pairs that are in order: `[*n, classes, classes]` to `[*n]`, 0 where there are none."""
    count = jnp.sum(order, (-2, -1)).astype(losses.dtype)
    return jnp.sum(jnp.where(order, losses, 0.0), (-2, -1)) / jnp.maximum(count, 1.0)
