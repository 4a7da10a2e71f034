"""Multi-label logit distillation.

Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang, "Multi-Label Knowledge Distillation" (L2D), ICCV 2023,
https://arxiv.org/abs/2308.06453

    loss = T^2 sum_k KL((s(z_t,k / T), 1 - s(z_t,k / T)) || (s(z_s,k / T), 1 - s(z_s,k / T))),    s the sigmoid

This is the paper's MLD, for networks whose classes do not exclude each other: every class is a binary decision, and
the loss is `kd` of each. T is 1 in the paper. Its
label-wise embedding distillation (LED), weighed beside it, needs a decoder with an embedding for each label and is not
here. Unlike softmax, this loss changes with a shift of all logits. The scores of a detector are such decisions, one for
each class and location; the loss is then that of each location, with an object or without.

Elsewhere: the authors' code agrees but for probabilities clamped to 1e-8, past which its gradient is 0; here it is in
log-space.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import TemperedLogitsMethod


def multi_label(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], temperature: Scalar = 1.0
) -> Float[Array, "*n"]:
    """Returns nats."""
    teacher, student = precise(teacher) / temperature, precise(student) / temperature
    return temperature**2 * jnp.sum(divergence.binary_kl(teacher, student), -1)


class MultiLabel(TemperedLogitsMethod):
    """`temperature` divides both logits."""

    zero_at_teacher = True
    predictions = ("classes", "labels", "boxes")

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def loss(student: Array, teacher: Array) -> Array:
            return multi_label(student, teacher, self.temperature)

        return self.compare(loss, student, teacher, batch=batch)
