"""Normalized knowledge distillation.

Yang, Zeng, Li, Zhang, Yuan, Li, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
Normalized Loss and Customized Soft Labels", ICCV 2023, https://arxiv.org/abs/2303.13005

    loss = - p_y log q_y - gamma T^2 sum_{j != y} N(p)_j log N(q)_j

p_y and q_y are the teacher's and the student's probability of the label's class at temperature 1; N is the softmax at T
over the other classes alone. Both parts are cross-entropies, so that the loss is not 0 at the teacher. gamma = 1.5 and
T = 1 are the paper's for ImageNet, to which it adds the cross-entropy with the labels. Of a label that mixes classes
the likeliest counts, as in the authors' code.

Elsewhere: the authors' cls_KD agrees.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import Labels, LogitsMethod


def nkd(
    student: Float[Array, "*n classes"],
    teacher: Float[Array, "*n classes"],
    label: Labels,
    temperature: Scalar,
    gamma: Scalar,
) -> Float[Array, "*n"]:
    """Returns nats."""
    label = label if jnp.issubdtype(label.dtype, jnp.integer) else jnp.argmax(label, -1)
    student, teacher = precise(student), precise(teacher)
    target = jax.nn.one_hot(label, student.shape[-1], dtype=bool)
    p = jnp.sum(jax.nn.softmax(teacher), -1, where=target)
    log_q = jnp.sum(divergence.log_probabilities(student), -1, where=target)
    others = divergence.soft_cross_entropy(teacher / temperature, student / temperature, where=~target)
    return -divergence.weighted(p, log_q) + gamma * temperature**2 * others


class NKD(LogitsMethod):
    """`gamma` weighs the classes other than the label's; `temperature` divides their logits."""

    gamma: Scalar = 1.5
    temperature: Scalar = 1.0
    needs_labels = True

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)
        check_least("gamma", self.gamma, 0)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        loss = functools.partial(nkd, temperature=self.temperature, gamma=self.gamma)
        return self.compare(loss, student, teacher, batch["label"], batch=batch)
