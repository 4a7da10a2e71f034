"""Divergences between the distributions of logits, in nats and in log-space."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdistill.core import precise


def log_probabilities(
    logits: Float[Array, "*n classes"], where: Bool[Array, "*n classes"] | None = None
) -> Float[Array, "*n classes"]:
    """Returns the log-softmax over the classes, in at least float32.

    Args:
        logits: of any float dtype.
        where: restricts the distributions to some classes. The others are 0 and have no gradient, so that a sum of
            differences of two of these goes over the chosen classes alone.
    """
    logits = precise(logits)
    if where is None:
        return jax.nn.log_softmax(logits)
    return jnp.where(where, logits - jax.nn.logsumexp(logits, -1, where=where, keepdims=True), 0.0)


def cross_entropy(target: Float[Array, "*n classes"], logits: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns - sum_k target_k log softmax(logits)_k in nats.

    A class of target 0 adds nothing, however unlikely it is by the logits.
    """
    return -jnp.sum(target * log_probabilities(logits), -1)


def soft_cross_entropy(
    teacher: Float[Array, "*n classes"],
    student: Float[Array, "*n classes"],
    where: Bool[Array, "*n classes"] | None = None,
) -> Float[Array, "*n"]:
    """Returns - sum_k p_k log q_k of softmax(teacher) and softmax(student), their KL plus the teacher's entropy.

    Args:
        teacher: logits.
        student: logits.
        where: the classes of the distributions, or all.
    """
    return -jnp.sum(jnp.exp(log_probabilities(teacher, where)) * log_probabilities(student, where), -1)


def kl(
    teacher: Float[Array, "*n classes"],
    student: Float[Array, "*n classes"],
    where: Bool[Array, "*n classes"] | None = None,
) -> Float[Array, "*n"]:
    """Returns KL(softmax(teacher) || softmax(student)) in nats.

    It is finite with finite gradients for any finite logits: no exponential is followed by a logarithm.

    Args:
        teacher: logits.
        student: logits.
        where: the classes of the distributions, or all.
    """
    log_p, log_q = log_probabilities(teacher, where), log_probabilities(student, where)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


def total_variation(teacher: Float[Array, "*n classes"], student: Float[Array, "*n classes"]) -> Float[Array, "*n"]:
    """Returns 1/2 sum_k |softmax(teacher)_k - softmax(student)_k|, 0 to 1."""
    return jnp.sum(jnp.abs(jax.nn.softmax(precise(teacher)) - jax.nn.softmax(precise(student))), -1) / 2


def binary_kl(teacher: Float[Array, "*n"], student: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the KL between the Bernoulli distributions of sigmoid(teacher) and sigmoid(student), one per logit."""
    teacher, student = precise(teacher), precise(student)

    def one_outcome(sign: int) -> Float[Array, "*n"]:
        log_p, log_q = jax.nn.log_sigmoid(sign * teacher), jax.nn.log_sigmoid(sign * student)
        return jnp.exp(log_p) * (log_p - log_q)

    return one_outcome(1) + one_outcome(-1)
