"""Logit standardization in knowledge distillation.

Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024, https://arxiv.org/abs/2403.01427

    loss = T^2 KL(softmax(Z(z_t) / T) || softmax(Z(z_s) / T)),    Z(z) = (z - mean(z)) / (std(z) + 1e-7)

mean and std are over the classes, one pair for each prediction and network: the student learns the pattern of its
teacher's logits, not their size. T = 2 is the authors' base temperature; they weigh this term 9 and the task 0.1, which
are weights of the terms. The same Z before another method of logits is the field `standardize` of `kd`, `dkd` and
`mlkd`.

std is the unbiased one, over classes - 1, as in the authors' code. With two classes Z is +-sqrt(1/2) whatever the
logits are, and only their order can be learned. Constant logits have Z = 0, with no gradient.

Elsewhere: the authors' code and torchdistill agree, up to that last point: theirs has a gradient of up to 1e7 there.
torchdistill multiplies by (1 - alpha) instead of a weight.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_positive
from jaxdistill.losses import distance, divergence
from jaxdistill.modules.logits_method import LogitsMethod


def standardize(logits: Float[Array, "*n classes"], eps: float = 1e-7) -> Float[Array, "*n classes"]:
    """Returns (z - mean) / (std + eps) over the classes above -inf, in at least float32; -inf stays."""
    logits = precise(logits)
    is_possible = logits != -jnp.inf
    count = jnp.sum(is_possible, -1, keepdims=True).astype(logits.dtype)
    finite = jnp.where(is_possible, logits, 0.0)
    centred = jnp.where(is_possible, finite - jnp.sum(finite, -1, keepdims=True) / jnp.maximum(count, 1), 0.0)
    root = jnp.sqrt(jnp.maximum(count - 1, 1))
    # The norm of the centred logits is root * std.
    return jnp.where(is_possible, root * distance.normalize(centred, eps=root * eps), -jnp.inf)


class LogitStandardization(LogitsMethod):
    """`temperature` divides the standardised logits."""

    temperature: Scalar = 2.0
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def loss(student: Array, teacher: Array) -> Array:
            student, teacher = (standardize(logits) / self.temperature for logits in (student, teacher))
            return self.temperature**2 * divergence.kl(teacher, student)

        return self.compare(loss, student, teacher, batch=batch)
