"""What distributions say of K classes, with all the others as one exact bucket: `core.TopK` of logits, and its KL.

Nothing is renormalised on the K classes: probability that the student puts elsewhere is in its bucket, and is seen.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import TopK, precise
from jaxdistill.losses import mixture

NOWHERE = -1e30
"""The log-probability of a bucket that is empty: finite, since infinite ones subtract to what is not a number."""


def of(logits: jax.Array, k: int) -> TopK:
    """Returns what `[*n, classes]` logits say of their k largest; all of them where there are fewer than k."""
    return at(logits, jax.lax.top_k(logits, min(k, logits.shape[-1]))[1])


def at(logits: jax.Array, ids: jax.Array) -> TopK:
    """Returns what `[*n, classes]` logits say of the classes `ids`, `[*n, k]`, different ones in each row.

    The bucket is a logsumexp over the other classes, never a difference from 1; it is -inf where there are none.
    """
    logits = precise(logits)
    total = jax.nn.logsumexp(logits, -1)
    values = jnp.take_along_axis(logits, ids, -1) - total[..., None]
    if ids.shape[-1] == logits.shape[-1]:
        return TopK(values, ids, jnp.full_like(total, -jnp.inf), logits.shape[-1])
    others = jnp.put_along_axis(jnp.ones(logits.shape, bool), ids, False, -1, inplace=False)
    return TopK(values, ids, jax.nn.logsumexp(logits, -1, where=others) - total, logits.shape[-1])


def kl(teacher: TopK, student: jax.Array) -> jax.Array:
    """KL between the teacher's K + 1 classes, the last one being all others, and the student's same ones.

    Args:
        teacher: of `[*n]` distributions.
        student: `[*n, classes]`, logits.

    Returns:
        `[*n]`, nats. It is at most the KL over all classes, and equal to it where K is all of them or the teacher
        and the student agree on how the bucket is shared out.
    """
    own = at(student, teacher.ids)
    listed = jnp.sum(jnp.exp(teacher.values) * (teacher.values - own.values), -1)
    left = jnp.isfinite(teacher.log_rest) & jnp.isfinite(own.log_rest)
    log_p, log_q = jnp.where(left, teacher.log_rest, 0.0), jnp.where(left, own.log_rest, 0.0)
    return listed + jnp.where(left, jnp.exp(log_p) * (log_p - log_q), 0.0)


def classes(said: TopK) -> jax.Array:
    """Returns the log-probabilities of the K classes and of the bucket, `[*n, k + 1]`."""
    rest = jnp.where(jnp.isfinite(said.log_rest), said.log_rest, NOWHERE)
    return jnp.concatenate([said.values, rest[..., None]], -1)


def jensen_shannon(teacher: TopK, student: jax.Array, beta: jax.Array | float, normalize: bool = False) -> jax.Array:
    """`mixture.jensen_shannon` between the teacher's K + 1 classes and the student's same ones: `[*n]`, nats."""
    own = at(student, teacher.ids)
    return mixture.jensen_shannon(classes(teacher), classes(own), beta, normalize)
