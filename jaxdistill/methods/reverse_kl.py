"""Reverse KL.

Gu, Dong, Wei, Huang, "MiniLLM: Knowledge Distillation of Large Language Models", ICLR 2024,
https://arxiv.org/abs/2306.08543; Ko et al., "DistiLLM", ICML 2024, https://arxiv.org/abs/2402.03898.

    loss = T^2 KL(softmax(z_s / T) || softmax(z_t / T)),    summed over classes, one value per prediction

The student covers the modes of its teacher, and avoids classes that the teacher finds unlikely. This is MiniLLM's
single-step part over the full vocabulary, exact instead of sampled as in its policy gradient; its long-range part needs
the student's own samples. Both papers have T = 1; T^2 keeps the gradient's size when T changes.

Elsewhere: DistiLLM's `reverse_kl` agrees. DSKD divides by a temperature without T^2 and adds tokens up. TRL's GKD at
beta 1 has no T^2; its MiniLLM lets padding into the advantages.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import TemperedLogitsMethod


def reverse_kl(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns nats."""
    return temperature**2 * divergence.kl(precise(student) / temperature, precise(teacher) / temperature)


class ReverseKL(TemperedLogitsMethod):
    """`temperature` divides both logits."""

    zero_at_teacher = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(lambda s, t: reverse_kl(s, t, self.temperature), student, teacher, batch=batch)
