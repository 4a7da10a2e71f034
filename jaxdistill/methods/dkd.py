"""Decoupled knowledge distillation.

Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", CVPR 2022, https://arxiv.org/abs/2203.08679

    loss = T^2 [alpha TCKD + beta NCKD]
    TCKD = KL between (p_y, 1 - p_y) of the teacher and of the student
    NCKD = KL between their distributions over the classes other than y

with p = softmax(z / T). KD is TCKD + (1 - p_y) NCKD, p_y the teacher's: it hides NCKD where the teacher is confident.
The paper tunes beta for each teacher; 8 and T = 4 are those for CIFAR-100's ResNet-32x4, with a warm-up of 20 epochs (a
schedule of the term's weight). With two classes NCKD is 0. Labels are indices: a mixture of classes, as mixup makes,
has no target class and is refused. Everything is in log-space: log(1 - p_y) is a logsumexp, and near equality TCKD is
of the differences of logits.

Elsewhere: mdistiller and cls_KD take the log of summed probabilities, which is infinite or NaN from gaps of about 100
on (at T = 1), and subtract 1000 from the label's logit instead of leaving it out. MMRazor sums over the examples for
every reduction but "batchmean".
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import UserError, check_least, check_positive
from jaxdistill.losses import divergence
from jaxdistill.methods.logit_standardization import standardize
from jaxdistill.modules.logits_method import Labels, LogitsMethod


def tckd_nckd(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], label: Labels
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Splits KL(teacher || student) at the label's class, both parts in nats.

    Raises:
        UserError: for labels that are distributions.
    """
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise UserError(
            "dkd splits the classes at the label's, and a label that mixes classes (mixup, cutmix) has none. Leave the"
            " mixing out, or use kd, which reads no labels."
        )
    student, teacher = precise(student), precise(teacher)
    target = jax.nn.one_hot(label, student.shape[-1], dtype=bool)
    tckd = divergence.one_against_rest_kl(teacher, student, target)
    return tckd, divergence.kl(teacher, student, where=~target)


def dkd(
    student: Float[Array, "*n classes"],
    teacher: Float[Array, "*n classes"],
    label: Labels,
    temperature: Scalar,
    alpha: Scalar,
    beta: Scalar,
) -> Float[Array, "*n"]:
    """Returns the weighted sum of both parts; labels are indices."""
    tckd, nckd = tckd_nckd(precise(student) / temperature, precise(teacher) / temperature, label)
    return temperature**2 * (alpha * tckd + beta * nckd)


class DKD(LogitsMethod):
    """`alpha` weighs the label's class, `beta` the others; `standardize` standardises both logits first."""

    alpha: Scalar = 1.0
    beta: Scalar = 8.0
    temperature: Scalar = 4.0
    standardize: bool = False
    needs_labels = True
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)
        check_least("alpha", self.alpha, 0)
        check_least("beta", self.beta, 0)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        settings = {"temperature": self.temperature, "alpha": self.alpha, "beta": self.beta}

        def loss(
            student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], label: Labels
        ) -> Float[Array, "*n"]:
            if self.standardize:
                student, teacher = standardize(student), standardize(teacher)
            return dkd(student, teacher, label, **settings)

        return self.compare(loss, student, teacher, batch["label"], batch=batch)
