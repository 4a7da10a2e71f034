"""Weightings of the members of an ensemble: functions of their predictions, found by name.

A weighting is called with log-probabilities `[members, *n, classes]`, and with the label of the batch if it has a
parameter `label`; it returns weights `[members, *n]` that need not sum to 1.
"""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdistill.core import UNLABELLED

Weighting = Callable[..., jax.Array]


def equal(log_probs: jax.Array) -> jax.Array:
    """Weights all members alike."""
    return jnp.ones(log_probs.shape[:-1], log_probs.dtype)


def confidence(log_probs: jax.Array, label: jax.Array) -> jax.Array:
    """Weights members by the probability of the label: (1 - s_k(-l_k[label])) / (K - 1), s the softmax over members.

    Equation 3 of Zhang, Chen & Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", ICASSP 2022,
    https://arxiv.org/abs/2201.00007. All members weigh alike without a label.

    Args:
        log_probs: `[members, *n, classes]`.
        label: `[*n]`, or mixed labels `[*n, classes]`.
    """
    members = log_probs.shape[0]
    if jnp.issubdtype(label.dtype, jnp.floating):  # mixed labels: the cross-entropy with the mixture
        surprise, is_labelled = -jnp.sum(label[None] * log_probs, -1), jnp.sum(label, -1) > 0
    else:
        index = jnp.broadcast_to(jnp.maximum(label, 0)[None, ..., None], (*log_probs.shape[:-1], 1))
        surprise, is_labelled = -jnp.take_along_axis(log_probs, index, -1)[..., 0], label != UNLABELLED
    weights = (1 - jax.nn.softmax(surprise, 0)) / max(members - 1, 1)
    return jnp.where(is_labelled[None] & (members > 1), weights, 1.0 / members)


def entropy(log_probs: jax.Array) -> jax.Array:
    """Weights members by how low their entropy is: s_k(-H(p_k)). Papers that do so differ in form."""
    return jax.nn.softmax(jnp.sum(jnp.exp(log_probs) * log_probs, -1), 0)


def agreement(log_probs: jax.Array) -> jax.Array:
    """Weights members by agreement with the mean: s_k(-KL(mean_j p_j || p_k)). Papers that do so differ in form."""
    mean = jax.nn.logsumexp(log_probs, 0, keepdims=True) - jnp.log(log_probs.shape[0])
    return jax.nn.softmax(-jnp.sum(jnp.exp(mean) * (mean - log_probs), -1), 0)


def reads_labels(weighting: Weighting) -> bool:
    """Returns whether a weighting has a parameter `label`."""
    return "label" in inspect.signature(weighting).parameters


WEIGHTINGS: dict[str, Weighting] = {
    "equal": equal,
    "confidence": confidence,
    "entropy": entropy,
    "agreement": agreement,
}
