"""Teacher-free KD: a teacher made by hand, which is right with a set probability and finds all other classes alike.

Yuan, Tay, Li, Wang, Feng, "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020,
https://arxiv.org/abs/1909.11723

    loss = KL(p_T || softmax(z_s / T)),    p = a for the label's class, (1 - a) / (K - 1) for the K - 1 others

p_T is p softened, proportional to p^(1/T). This is the paper's Tf-KD_reg, to be weighed alpha against 1 - alpha for the
cross-entropy with the labels; T = 20 and a = 0.99 are the authors'. There is no T^2: the term's weight is the place for
it. At T = 1 it is label smoothing over the other classes, less the target's entropy. Of a label that mixes classes, p
is the same mixture. The paper's other method, Tf-KD_self, is `kd` with a teacher of the student's own architecture.

Elsewhere: the authors' code softens otherwise, softmax(p / T) of the probabilities themselves, leaves the student's
temperature at 1, and takes the mean over the classes times a multiplier of 1 to 100. KD_Lib calls it virtual teacher.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import UserError, check_positive
from jaxdistill.losses import divergence
from jaxdistill.methods.cross_entropy import labelled, soft


def virtual_teacher(label: jax.Array, classes: int, correct: float) -> jax.Array:
    """Returns the logs of the probabilities p, `[*n, classes]`, for labels as `soft` takes them."""
    share = precise(soft(label, classes))
    return jnp.log(correct * share + (1 - correct) * (1 - share) / max(classes - 1, 1))


def teacher_free(student: jax.Array, label: jax.Array, correct: float, temperature: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, classes]` and labels, int `[*n]` or distributions `[*n, classes]`."""
    teacher = virtual_teacher(label, student.shape[-1], correct)
    return divergence.kl(teacher / temperature, precise(student) / temperature)


class TeacherFree(Method):
    """`correct` is the probability of the label's class, before both sides are softened by `temperature`."""

    correct: float = 0.99
    temperature: float = 20.0
    needs_teacher = False
    needs_labels = True

    def check(self):
        check_positive("temperature", self.temperature)
        if not 0 < self.correct < 1:
            raise UserError(f"correct={self.correct} makes no sense; it is a probability: more than 0, less than 1")

    def valid(self, batch):
        return labelled(batch)

    def __call__(self, student, teacher, batch):
        return teacher_free(student.logits, batch["label"], self.correct, self.temperature)
