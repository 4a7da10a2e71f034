"""Word-level knowledge distillation, the forward KL.

Kim, Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016, section 3.1, https://arxiv.org/abs/1606.07947.

    loss = T^2 KL(softmax(z_t / T) || softmax(z_s / T)),    summed over classes, one value per prediction

On the student's own samples this is on-policy distillation, as in GKD (https://arxiv.org/abs/2306.13649)
at its beta -> 0. The paper has T = 1; T^2 keeps the gradient's size when T changes. The paper minimises the
cross-entropy, which has the same gradient.

Elsewhere: DistiLLM's `forward_kl` is the cross-entropy, larger by the teacher's entropy. DSKD divides by a temperature
without T^2 and adds tokens up; DistillKit has T^2. TRL's GKD at beta 0 has neither T^2 nor, without labels, a mean over
tokens: it divides by the batch. EasyDeL compares logits with labels that are not shifted.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import TemperedLogitsMethod


def forward_kl(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns nats."""
    return temperature**2 * divergence.kl(precise(teacher) / temperature, precise(student) / temperature)


class ForwardKL(TemperedLogitsMethod):
    """`temperature` divides both logits."""

    zero_at_teacher = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(lambda s, t: forward_kl(s, t, self.temperature), student, teacher, batch=batch)
