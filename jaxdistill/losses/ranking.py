"""Ranking losses over pairs of classes: whether the student puts them in its teacher's order.

Pairs are the last two axes, `[*n, classes, classes]`: entry (k, l) is about class k before class l.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdistill.core import Scalar, precise


def gaps(scores: Float[Array, "*n classes"]) -> Float[Array, "*n classes classes"]:
    """Returns scores_k - scores_l; 0 for two scores of -inf."""
    scores = precise(scores)
    left, right = scores[..., :, None], scores[..., None, :]
    are_lowest = (left == -jnp.inf) & (right == -jnp.inf)
    return jnp.where(are_lowest, 0.0, left) - jnp.where(are_lowest, 0.0, right)


def order(teacher: Float[Array, "*n classes"]) -> Bool[Array, "*n classes classes"]:
    """Returns the pairs of which the teacher scores k above l; equal scores are in no order."""
    return teacher[..., :, None] > teacher[..., None, :]


def hinge(
    student: Float[Array, "*n classes"], margin: Scalar | Float[Array, "*n classes classes"]
) -> Float[Array, "*n classes classes"]:
    """Returns max(0, margin - (score_k - score_l)); a margin for each pair may be the teacher's own gap."""
    return jax.nn.relu(margin - gaps(student))


def logistic(student: Float[Array, "*n classes"]) -> Float[Array, "*n classes classes"]:
    """Returns RankNet's log(1 + exp(-(score_k - score_l)))."""
    return jax.nn.softplus(-gaps(student))


def mean(losses: Float[Array, "*n classes classes"], order: Bool[Array, "*n classes classes"]) -> Float[Array, "*n"]:
    """Averages the pairs that are in order, 0 if there are none."""
    count = jnp.sum(order, (-2, -1)).astype(losses.dtype)
    return jnp.sum(jnp.where(order, losses, 0.0), (-2, -1)) / jnp.maximum(count, 1.0)
