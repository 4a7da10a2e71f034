"""Total variation: half the difference between the two distributions, in probability and not in its logarithm.

Wen, Li, Du, Mou, "f-Divergence Minimization for Sequence-Level Knowledge Distillation", ACL 2023,
https://arxiv.org/abs/2307.15190

    loss = 1/2 sum_k |softmax(z_t)_k - softmax(z_s)_k|

It is symmetric and at most 1, reached where the two have no class in common; there the gradient is 0, so that a student
far from a sure teacher needs another term beside this one. The paper's is over sequences, which the sum over their
words bounds: one value per token, or per image. It has no temperature: `temperature` is 1.

Elsewhere: DistiLLM's `tv_distance` agrees.
"""

import jax

from jaxdistill.core import precise
from jaxdistill.losses import divergence
from jaxdistill.modules.next_token import TemperedNextToken


def total_variation(student: jax.Array, teacher: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Returns `[*n]`, 0 to 1, for logits `[*n, classes]`."""
    return divergence.total_variation(precise(teacher) / temperature, precise(student) / temperature)


class TotalVariation(TemperedNextToken):
    """`temperature` divides both logits; of next tokens where the batch has `tokens`, else of what it has."""

    zero_at_teacher = True
    domain = "classification"

    def __call__(self, student, teacher, batch):
        return self.compare(lambda s, t: total_variation(s, t, self.temperature), student, teacher)
