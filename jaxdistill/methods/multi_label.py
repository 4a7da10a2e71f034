"""Multi-label logit distillation: every class is a question of its own, answered yes or no.

Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang, "Multi-Label Knowledge Distillation" (L2D), ICCV 2023,
https://arxiv.org/abs/2308.06453

    loss = sum_k KL((s(z_t,k), 1 - s(z_t,k)) || (s(z_s,k), 1 - s(z_s,k))),    s the sigmoid

This is the paper's MLD, for networks whose classes do not exclude each other. Its label-wise embedding distillation
(LED), weighed beside it, needs a decoder with an embedding for each label and is not here. A shift of all logits is not
the same answer: unlike those of softmax, this loss sees it.

Elsewhere: the authors' code agrees but for probabilities clamped to 1e-8, past which its gradient is 0; here it is in
log-space.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.losses import divergence


def multi_label(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, classes]`."""
    return jnp.sum(divergence.binary_kl(teacher, student), -1)


class MultiLabel(Method):
    """It has no settings."""

    zero_at_teacher = True

    def __call__(self, student, teacher, batch):
        return multi_label(student.logits, teacher.logits)
