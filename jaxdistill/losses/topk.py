"""Distributions over K listed classes and one exact bucket of all others: `core.TopK`, and its divergences.

Nothing is renormalised on the K classes: probability that the student puts elsewhere is in its bucket, and counts.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdistill.core import Scalar, TopK, precise
from jaxdistill.losses import divergence, mixture


def from_logits(logits: Float[Array, "*n classes"], k: int) -> TopK:
    """Lists the k largest logits; all of them if there are fewer than k."""
    return from_ids(logits, jax.lax.top_k(logits, min(k, logits.shape[-1]))[1])


def from_ids(logits: Float[Array, "*n classes"], ids: Int[Array, "*n k"]) -> TopK:
    """Lists the classes `ids`, different ones in each row.

    The bucket is a logsumexp over the other classes, never a difference from 1; it is -inf if there are none.
    """
    logits, num_classes = precise(logits), logits.shape[-1]
    total = jax.nn.logsumexp(logits, -1)
    values = jnp.take_along_axis(logits, ids, -1) - total[..., None]
    if ids.shape[-1] == num_classes:
        return TopK(values, ids, jnp.full_like(total, -jnp.inf), num_classes)
    others = jnp.put_along_axis(jnp.ones(logits.shape, bool), ids, False, -1, inplace=False)
    return TopK(values, ids, divergence.log_total(logits, others) - total, num_classes)


def kl(teacher: TopK, student: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns the KL between the teacher's K + 1 classes, the last one being all others, and the student's same ones.

    Args:
        teacher: of the same predictions.
        student: logits.

    Returns:
        Nats. It is at most the KL over all classes, and equal to it if K is all of them or the teacher and the student
        agree on the distribution within the bucket.
    """
    listed = from_ids(student, teacher.ids)
    return divergence.kl(log_probabilities(teacher), log_probabilities(listed))


def log_probabilities(top: TopK) -> Float[Array, "*n listed"]:
    """Returns the log-probabilities of the K classes and of the bucket, K + 1 in all."""
    return jnp.concatenate([top.values, top.log_rest[..., None]], -1)


def jensen_shannon(
    teacher: TopK, student: Float[Array, "*n classes"], beta: Scalar, normalize: bool = False
) -> Float[Array, "*n"]:
    """Returns `mixture.jensen_shannon` between the teacher's K + 1 classes and the student's same ones."""
    listed = from_ids(student, teacher.ids)
    return mixture.jensen_shannon(log_probabilities(teacher), log_probabilities(listed), beta, normalize)
