"""Weighted soft labels: an example's soft target counts more, the more the student lags behind its teacher on it.

Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang, "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance
Tradeoff Perspective", ICLR 2021, https://arxiv.org/abs/2102.00650

    loss = - w T^2 sum_k p_k log q_k,    w = 1 - exp(- CE(y, z_s) / CE(y, z_t))

p = softmax(z_t / T), q = softmax(z_s / T); w has no gradient and its cross-entropies no temperature. T = 2 is the
authors', who weigh this term 2.5 for ImageNet beside the cross-entropy with the labels. Labels may mix classes.

Elsewhere: the authors' code and MMRazor add 1e-7 to the teacher's cross-entropy, as here, so that a sure teacher
does not divide by 0. MMRazor's default T is 1.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import check_positive
from jaxdistill.losses import divergence
from jaxdistill.methods.cross_entropy import cross_entropy, labelled


def weight(student: jax.Array, teacher: jax.Array, label: jax.Array) -> jax.Array:
    """Returns w, `[*n]`, 0 to 1, without a gradient; for logits `[*n, classes]` and labels as `cross_entropy`'s."""
    own, other = (cross_entropy(precise(x), label, 0.0) for x in (student, teacher))
    return jax.lax.stop_gradient(1 - jnp.exp(-own / (other + 1e-7)))


def wsld(student: jax.Array, teacher: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
    """Returns `[*n]` for logits `[*n, classes]` and labels, int `[*n]` or distributions `[*n, classes]`."""
    soft = divergence.soft_cross_entropy(precise(teacher) / temperature, precise(student) / temperature)
    return weight(student, teacher, label) * temperature**2 * soft


class WSLD(Method):
    """`temperature` divides the logits of the soft targets, not those of the weights."""

    temperature: float = 2.0
    needs_labels = True

    def check(self):
        check_positive("temperature", self.temperature)

    def valid(self, batch):
        return labelled(batch)

    def __call__(self, student, teacher, batch):
        return wsld(student.logits, teacher.logits, batch["label"], self.temperature)
