"""Reverse KL: the student seeks the modes of its teacher, and puts nothing where the teacher puts nothing.

Gu, Dong, Wei, Huang, "MiniLLM: Knowledge Distillation of Large Language Models", ICLR 2024,
https://arxiv.org/abs/2306.08543; Ko et al., "DistiLLM", ICML 2024, https://arxiv.org/abs/2402.03898.

    loss = T^2 KL(softmax(z_s / T) || softmax(z_t / T)),    summed over the vocabulary, one value per token

This is MiniLLM's single-step part over the full vocabulary, exact where its policy gradient samples; its long-range
part needs the student's own samples. Both papers have T = 1; T^2 keeps the gradient's size when T changes.

Elsewhere: DistiLLM's `reverse_kl` agrees. DSKD divides by a temperature without T^2 and adds tokens up. TRL's GKD at
beta 1 has no T^2; its MiniLLM lets padding into the advantages.
"""

import jax

from jaxdistill.core import precise
from jaxdistill.losses import divergence
from jaxdistill.modules.next_token import TemperedNextToken


def reverse_kl(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]`."""
    return temperature**2 * divergence.kl(precise(student) / temperature, precise(teacher) / temperature)


class ReverseKL(TemperedNextToken):
    """`temperature` divides both logits."""

    zero_at_teacher = True

    def __call__(self, student, teacher, batch):
        return self.compare(lambda s, t: reverse_kl(s, t, self.temperature), student, teacher)
