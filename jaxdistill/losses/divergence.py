"""Divergences between the distributions that logits stand for, in nats and in log-space."""

import jax
import jax.numpy as jnp

from jaxdistill.core import precise


def log_probabilities(logits: jax.Array) -> jax.Array:
    """Log-softmax over the last axis in at least float32: `[*n, classes] -> [*n, classes]`."""
    return jax.nn.log_softmax(precise(logits))


def cross_entropy(target: jax.Array, logits: jax.Array) -> jax.Array:
    """- sum_k target_k log softmax(logits)_k.

    Args:
        target: `[*n, classes]`, probabilities.
        logits: `[*n, classes]`.

    Returns:
        `[*n]`, nats. A class of target 0 adds nothing, however unlikely the logits find it.
    """
    return -jnp.sum(target * log_probabilities(logits), -1)


def kl(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """KL(softmax(teacher) || softmax(student)).

    Args:
        teacher: `[*n, classes]`, logits.
        student: `[*n, classes]`, logits.

    Returns:
        `[*n]`, nats; finite with finite gradients for any finite logits: nothing is exponentiated that is
        then logged.
    """
    log_p, log_q = log_probabilities(teacher), log_probabilities(student)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)
