"""Decoupled KD: how likely the label's class is, and how the others share the rest, each with its own weight.

Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", CVPR 2022, https://arxiv.org/abs/2203.08679

    loss = T^2 [alpha TCKD + beta NCKD]
    TCKD = KL between (p_y, 1 - p_y) of the teacher and of the student
    NCKD = KL between their distributions over the classes other than y

with p = softmax(z / T). KD is TCKD + (1 - p_y) NCKD, p_y the teacher's: it hides NCKD where the teacher is sure. The
paper tunes beta for each teacher; 8 and T = 4 are those for CIFAR-100's ResNet-32x4, with a warm-up of 20 epochs (a
schedule of the term's weight). With two classes NCKD is 0. Labels are indices: for a mixture of classes, as mixup
makes, there is no target class and the method is refused. Everything is in log-space: log(1 - p_y) is a logsumexp.

Elsewhere: mdistiller and cls_KD take the log of summed probabilities, which is infinite or NaN from gaps of about 100
on (at T = 1), and subtract 1000 from the label's logit in place of leaving it out. MMRazor adds the examples
up for every reduction but "batchmean".
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import UserError, check_least, check_positive
from jaxdistill.losses import divergence
from jaxdistill.methods.cross_entropy import labelled
from jaxdistill.methods.logit_standardization import standardize


def tckd_nckd(student: jax.Array, teacher: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits KL(teacher || student) at the label's class.

    Args:
        student: `[*n, classes]`, logits.
        teacher: `[*n, classes]`, logits.
        label: int `[*n]`.

    Returns:
        Two of `[*n]`, nats.

    Raises:
        UserError: for labels that are distributions.
    """
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise UserError(
            "dkd splits the classes at the label's, and a label that mixes classes (mixup, cutmix) has none; leave the"
            " mixing out, or use kd, which reads no labels"
        )
    student, teacher = precise(student), precise(teacher)
    target = jax.nn.one_hot(label, student.shape[-1], dtype=bool)

    def binary(logits):
        this = jnp.sum(logits, -1, where=target)
        return jnp.stack([this, jax.nn.logsumexp(logits, -1, where=~target)], -1)

    return divergence.kl(binary(teacher), binary(student)), divergence.kl(teacher, student, where=~target)


def dkd(
    student: jax.Array, teacher: jax.Array, label: jax.Array, temperature: float, alpha: float, beta: float
) -> jax.Array:
    """Returns `[*n]` for logits `[*n, classes]` and int labels `[*n]`."""
    tckd, nckd = tckd_nckd(precise(student) / temperature, precise(teacher) / temperature, label)
    return temperature**2 * (alpha * tckd + beta * nckd)


class DKD(Method):
    """`alpha` weighs the label's class, `beta` the others; `standardize` standardises both logits first."""

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    standardize: bool = False
    needs_labels = True
    zero_at_teacher = True

    def check(self):
        check_positive("temperature", self.temperature)
        check_least("alpha", self.alpha, 0)
        check_least("beta", self.beta, 0)

    def valid(self, batch):
        return labelled(batch)

    def __call__(self, student, teacher, batch):
        own, other = student.logits, teacher.logits
        if self.standardize:
            own, other = standardize(own), standardize(other)
        return dkd(own, other, batch["label"], self.temperature, self.alpha, self.beta)
