"""Patient knowledge distillation: the class token's states of several layers, compared in direction.

Sun, Cheng, Gan, Liu, "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019,
https://arxiv.org/abs/1908.09355

    loss = sum_(i, j) || h^s_i / ||h^s_i||_2 - h^t_j / ||h^t_j||_2 ||_2^2,    one value per example

h is the state of the first token, [CLS], after layer i of the student and j of the teacher. "Skip" takes every k-th of
the teacher's layers and "Last" its last ones (`layers="last:block*"`); the student's last layer is left to the logits.
It is one term of the paper's loss: (1 - alpha) cross-entropy + alpha KD + beta this. Widths are equal in the paper;
where they differ a learned linear map brings the student's to the teacher's.

Elsewhere: the authors' code averages over layers and over the width where the paper adds, and so is smaller by their
product; it returns float16. TextBrewer's `pkd` adds over the width, as the paper does.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping


def patient_kd(student: jax.Array, teacher: jax.Array, normalize: bool = True) -> jax.Array:
    """Compares states of the class token.

    Args:
        student: `[*n, width]`.
        teacher: `[*n, width]`.
        normalize: whether only directions count, as in the paper.

    Returns:
        `[*n]`, squared distances, at most 4 where only directions count.
    """
    if normalize:
        student, teacher = distance.normalize(student), distance.normalize(teacher)
    return jnp.sum((student - teacher) ** 2, -1)


class PatientKD(Method):
    """`layers` says which layer learns from which; the class token is the first of each text."""

    layers: str = "skip:block*"
    same_classes = False
    zero_at_teacher = True
    domain = "encoder"

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, target, name):
            own, target = own[:, 0], target[:, 0]
            return patient_kd(own if own.shape == target.shape else adapters.match(own, target, name), target)

        return layer_mapping.over(self, student, teacher, loss)
