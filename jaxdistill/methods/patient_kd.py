"""Patient knowledge distillation (Patient KD).

Sun, Cheng, Gan, Liu, "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019,
https://arxiv.org/abs/1908.09355

    loss = sum_(i, j) || h^s_i / ||h^s_i||_2 - h^t_j / ||h^t_j||_2 ||_2^2,    one value per example

h is the state of the first token, [CLS], after layer i of the student and j of the teacher. "Skip" takes every k-th of
the teacher's layers and "Last" its last ones (`layers="last:block*"`); no rule pairs the student's last layer, which
learns by its logits.
This is one term of the paper's loss: (1 - alpha) cross-entropy + alpha KD + beta this. Widths are equal in the paper;
if they differ, a learned linear map gives the student the teacher's.

Elsewhere: the authors' code averages over layers and over the width instead of adding, and so is smaller by their
product; it returns float16. TextBrewer's `pkd` adds over the width, as the paper does.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping


def patient_kd(
    student: Float[Array, "*n width"], teacher: Float[Array, "*n width"], normalize: bool = True
) -> Float[Array, "*n"]:
    """Returns the squared distances of states of the class token; `normalize` compares directions, as in the paper."""
    if normalize:
        student, teacher = distance.normalize(student), distance.normalize(teacher)
    return jnp.sum((student - teacher) ** 2, -1)


class PatientKD(Method):
    """`layers` pairs the layers of the two sides; the class token is the first of each text."""

    layers: str = "skip:block*"
    same_classes = False
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_states: Array, teacher_states: Array, name: str) -> Array:
            student_state, teacher_state = student_states[:, 0], teacher_states[:, 0]
            if student_state.shape != teacher_state.shape:
                student_state = adapters.match(student_state, teacher_state, name)
            return patient_kd(student_state, teacher_state)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss, without_last=True)
