"""Focal loss of binary decisions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdistill.core import Scalar


def sigmoid_focal(
    logits: Float[Array, "*n"], target: Bool[Array, "*n"], alpha: Scalar, gamma: Scalar
) -> Float[Array, "*n"]:
    """Returns -alpha_t (1 - p_t)^gamma log p_t, with p_t the probability of the right decision.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, https://arxiv.org/abs/1708.02002, equation 5.
    Computed from logarithms, so that neither value nor gradient overflows.

    Args:
        logits: of one decision each.
        target: whether it is a yes.
        alpha: weight of a yes; that of a no is 1 - alpha.
        gamma: how much less a sure decision counts; 0 is the weighted cross-entropy.
    """
    right = jnp.where(target, logits, -logits)
    weight = jnp.where(target, alpha, 1 - alpha)
    return weight * jnp.exp(-gamma * jax.nn.softplus(right)) * jax.nn.softplus(-right)
