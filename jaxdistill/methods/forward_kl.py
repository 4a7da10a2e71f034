"""Word-level distillation: the student matches the teacher's distribution of every next token.

Kim, Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016, section 3.1, https://arxiv.org/abs/1606.07947.

    loss = T^2 KL(softmax(z_t / T) || softmax(z_s / T)),    summed over the vocabulary, one value per token

Where the tokens are the student's own samples this is supervision on-policy, as in GKD (https://arxiv.org/abs/2306.13649)
at its beta -> 0. The paper has T = 1; T^2 keeps the gradient's size when T changes. The paper minimises the
cross-entropy, which has the same gradient.

Elsewhere: DistiLLM's `forward_kl` is the cross-entropy, larger by the teacher's entropy. DSKD divides by a temperature
without T^2 and adds tokens up; DistillKit has T^2. TRL's GKD at beta 0 has neither T^2 nor, without labels, a mean over
tokens: it divides by the batch. EasyDeL compares logits with labels that are not shifted.
"""

import jax

from jaxdistill.core import precise
from jaxdistill.losses import divergence
from jaxdistill.modules.next_token import TemperedNextToken


def forward_kl(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]`."""
    return temperature**2 * divergence.kl(precise(teacher) / temperature, precise(student) / temperature)


class ForwardKL(TemperedNextToken):
    """`temperature` divides both logits."""

    zero_at_teacher = True

    def __call__(self, student, teacher, batch):
        return self.compare(lambda s, t: forward_kl(s, t, self.temperature), student, teacher)
