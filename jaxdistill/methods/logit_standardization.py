"""Logit standardisation: the student learns what its teacher's logits are like, not how large they are.

Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024, https://arxiv.org/abs/2403.01427

    loss = T^2 KL(softmax(Z(z_t) / T) || softmax(Z(z_s) / T)),    Z(z) = (z - mean(z)) / (std(z) + 1e-7)

mean and std are over the classes, one pair for each example and network. T = 2 is the authors' base temperature; they
weigh this term 9 and the task 0.1, which are weights of the terms. The same Z before another method of logits is the
field `standardize` of `kd`, `dkd` and `mlkd`.

std is the unbiased one, over classes - 1, as in the authors' code. With two classes Z is +-sqrt(1/2) whatever the
logits are, and there is nothing to learn but their order. Constant logits have Z = 0, with no gradient.

Elsewhere: the authors' code and torchdistill agree, up to that last point: theirs has a gradient of up to 1e7 there.
torchdistill's is with (1 - alpha) in place of a weight.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import check_positive
from jaxdistill.losses import distance, divergence


def standardize(logits: jax.Array, eps: float = 1e-7) -> jax.Array:
    """Returns (z - mean) / (std + eps) over the last axis, `[*n, classes]` in at least float32."""
    logits = precise(logits)
    root = max(logits.shape[-1] - 1, 1) ** 0.5
    # The norm of the centred logits is root * std.
    return root * distance.normalize(logits - jnp.mean(logits, -1, keepdims=True), eps=root * eps)


class LogitStandardization(Method):
    """`temperature` divides the standardised logits."""

    temperature: float = 2.0
    zero_at_teacher = True

    def check(self):
        check_positive("temperature", self.temperature)

    def __call__(self, student, teacher, batch):
        own, other = (standardize(x.logits) / self.temperature for x in (student, teacher))
        return self.temperature**2 * divergence.kl(other, own)
