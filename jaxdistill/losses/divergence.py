"""Divergences between the distributions that logits stand for, in nats and in log-space."""

import jax
import jax.numpy as jnp

from jaxdistill.core import precise


def log_probabilities(logits: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Log-softmax over the last axis in at least float32: `[*n, classes] -> [*n, classes]`.

    `where`, bool `[*n, classes]`, restricts it to some classes. The others' are 0 and have no gradient: a sum of
    differences of two of these goes over the kept classes alone.
    """
    logits = precise(logits)
    if where is None:
        return jax.nn.log_softmax(logits)
    return jnp.where(where, logits - jax.nn.logsumexp(logits, -1, where=where, keepdims=True), 0.0)


def cross_entropy(target: jax.Array, logits: jax.Array) -> jax.Array:
    """- sum_k target_k log softmax(logits)_k.

    Args:
        target: `[*n, classes]`, probabilities.
        logits: `[*n, classes]`.

    Returns:
        `[*n]`, nats. A class of target 0 adds nothing, however unlikely the logits find it.
    """
    return -jnp.sum(target * log_probabilities(logits), -1)


def soft_cross_entropy(teacher: jax.Array, student: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """- sum_k p_k log q_k of softmax(teacher) and softmax(student): their KL and the teacher's entropy.

    Args:
        teacher: `[*n, classes]`, logits.
        student: `[*n, classes]`, logits.
        where: bool `[*n, classes]`, the classes that the distributions are over, or all.

    Returns:
        `[*n]`, nats.
    """
    return -jnp.sum(jnp.exp(log_probabilities(teacher, where)) * log_probabilities(student, where), -1)


def kl(teacher: jax.Array, student: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """KL(softmax(teacher) || softmax(student)).

    Args:
        teacher: `[*n, classes]`, logits.
        student: `[*n, classes]`, logits.
        where: bool `[*n, classes]`, the classes that the distributions are over, or all.

    Returns:
        `[*n]`, nats; finite with finite gradients for any finite logits: nothing is exponentiated that is
        then logged.
    """
    log_p, log_q = log_probabilities(teacher, where), log_probabilities(student, where)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


def total_variation(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """1/2 sum_k |softmax(teacher)_k - softmax(student)_k|: `[*n, classes]` logits to `[*n]`, 0 to 1."""
    return jnp.sum(jnp.abs(jax.nn.softmax(precise(teacher)) - jax.nn.softmax(precise(student))), -1) / 2


def binary_kl(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """KL between the coins that sigmoid(teacher) and sigmoid(student) weigh, one for each logit: `[*n]` to `[*n]`."""
    teacher, student = precise(teacher), precise(student)

    def side(sign):
        log_p, log_q = jax.nn.log_sigmoid(sign * teacher), jax.nn.log_sigmoid(sign * student)
        return jnp.exp(log_p) * (log_p - log_q)

    return side(1) + side(-1)
