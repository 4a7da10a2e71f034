"""Teacher-free knowledge distillation.

Yuan, Tay, Li, Wang, Feng, "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020,
https://arxiv.org/abs/1909.11723

    loss = KL(p_T || softmax(z_s / T)),    p = a for the label's class, (1 - a) / (K - 1) for the K - 1 others

The teacher is a fixed distribution. p_T is p softened, proportional to p^(1/T). This is the paper's Tf-KD_reg, to be
weighed alpha against 1 - alpha for the cross-entropy with the labels; T = 20 and a = 0.99 are the authors'. T^2 is left
to the term's weight. At T = 1 it is label smoothing over the other classes, less the target's entropy. For a label that
mixes classes, p is the same mixture. The paper's other method, Tf-KD_self, is `kd` with a teacher of the student's own
architecture.

Elsewhere: the authors' code softens differently, softmax(p / T) of the probabilities themselves, leaves the student's
temperature at 1, and takes the mean over the classes times a multiplier of 1 to 100. KD_Lib calls it virtual teacher.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import UserError, check_positive
from jaxdistill.losses import divergence
from jaxdistill.methods.cross_entropy import one_hot
from jaxdistill.modules.logits_method import Labels, LogitsMethod


def virtual_teacher(label: Labels, num_classes: int, correct: Scalar) -> Float[Array, "*n classes"]:
    """Returns the logarithms of the probabilities p."""
    target = precise(one_hot(label, num_classes))
    return jnp.log(correct * target + (1 - correct) * (1 - target) / max(num_classes - 1, 1))


def teacher_free(
    student: Float[Array, "*n classes"], label: Labels, correct: Scalar, temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns nats."""
    teacher = virtual_teacher(label, student.shape[-1], correct)
    return divergence.kl(teacher / temperature, precise(student) / temperature)


class TeacherFree(LogitsMethod):
    """`correct` is the probability of the label's class, before both sides are softened by `temperature`."""

    correct: Scalar = 0.99
    temperature: Scalar = 20.0
    needs_teacher = False
    needs_labels = True

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)
        if not 0 < self.correct < 1:
            raise UserError(f"correct must be in (0, 1), got {self.correct}. It is a probability.")

    def __call__(self, student: Output, teacher: Output | None, batch: Batch) -> Float[Array, "*n"]:
        def loss(logits: Float[Array, "*n classes"], _: None, label: Labels) -> Float[Array, "*n"]:
            return teacher_free(logits, label, self.correct, self.temperature)

        return self.compare(loss, student, None, batch["label"], batch=batch)
