"""Knowledge distillation.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 workshop,
https://arxiv.org/abs/1503.02531

    loss = T^2 KL(softmax(z_t / T) || softmax(z_s / T)),    summed over classes, one value per prediction

T^2 keeps the gradient's size when T changes (section 2 of the paper). The paper minimises the soft
cross-entropy, which has the same gradient; its value is larger by the teacher's entropy. The paper names no
default temperature: 4 is the CRD benchmark's. Two networks that learn from each other by this at T = 1 are deep
mutual learning (https://arxiv.org/abs/1706.00384).

Elsewhere: RepDistiller, mdistiller and KD-Zoo agree. `torch.nn.KLDivLoss(reduction="mean")`, as in BERT-PKD, is
smaller by the number of classes; torchdistill drops T^2 when its alpha is 0 or None; Keras 3.15 applies no softmax.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_positive
from jaxdistill.losses import divergence
from jaxdistill.methods.logit_standardization import standardize
from jaxdistill.modules.logits_method import LogitsMethod


def kd(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns nats."""
    return temperature**2 * divergence.kl(precise(teacher) / temperature, precise(student) / temperature)


class KD(LogitsMethod):
    """`temperature` divides both logits; `standardize` standardises them first (Sun et al. 2024)."""

    temperature: Scalar = 4.0
    standardize: bool = False
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_positive("temperature", self.temperature)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def loss(student: Array, teacher: Array) -> Array:
            if self.standardize:
                student, teacher = standardize(student), standardize(teacher)
            return kd(student, teacher, self.temperature)

        return self.compare(loss, student, teacher, batch=batch)
