"""Weighted soft label distillation.

Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang, "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance
Tradeoff Perspective", ICLR 2021, https://arxiv.org/abs/2102.00650

    loss = - w T^2 sum_k p_k log q_k,    w = 1 - exp(- CE(y, z_s) / CE(y, z_t))

p = softmax(z_t / T), q = softmax(z_s / T). The soft target of an example counts more, the more the student lags behind
its teacher on it; w has no gradient and its cross-entropies no temperature. T = 2 is the authors', who weigh this term
2.5 for ImageNet beside the cross-entropy with the labels. Labels may mix classes.

Elsewhere: the authors' code and MMRazor add 1e-7 to the teacher's cross-entropy, as here, so that a confident teacher
does not divide by 0. MMRazor's default T is 1.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_positive
from jaxdistill.losses import divergence
from jaxdistill.methods.cross_entropy import cross_entropy
from jaxdistill.modules.logits_method import Labels, LogitsMethod


def weight(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], label: Labels
) -> Float[Array, "*n"]:
    """Returns w, 0 to 1, without a gradient."""
    of_student, of_teacher = (cross_entropy(precise(x), label, 0.0) for x in (student, teacher))
    return jax.lax.stop_gradient(1 - jnp.exp(-of_student / (of_teacher + 1e-7)))


def wsld(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], label: Labels, temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns weighted nats."""
    soft = divergence.soft_cross_entropy(precise(teacher) / temperature, precise(student) / temperature)
    return weight(student, teacher, label) * temperature**2 * soft


class WSLD(LogitsMethod):
    """`temperature` divides the logits of the soft targets, not those of the weights."""

    temperature: Scalar = 2.0
    needs_labels = True

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        loss = functools.partial(wsld, temperature=self.temperature)
        return self.compare(loss, student, teacher, batch["label"], batch=batch)
