"""Total variation: half of the probability that student and teacher place differently.

Wen, Li, Du, Mou, "f-Divergence Minimization for Sequence-Level Knowledge Distillation", ACL 2023,
https://arxiv.org/abs/2307.15190.

    loss = 1/2 sum_k |softmax(z_t)_k - softmax(z_s)_k|

one value per token, between 0 and 1: the step-wise bound of the paper's sequence-level divergence, symmetric in both.
Where the distributions do not overlap its gradient is almost 0, so that it is a finishing touch rather than a start.

Elsewhere: DistiLLM's `tv_distance` agrees. Method `total_variation` is the same of images.
"""

import jax

from jaxdistill.losses import divergence
from jaxdistill.next_token import NextToken


def token_total_variation(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[*n]`, probabilities, for logits `[*n, vocabulary]`."""
    return divergence.total_variation(teacher, student)


class TokenTotalVariation(NextToken):
    """It has no settings of its own."""

    zero_at_teacher = True

    def __call__(self, student, teacher, batch):
        return self.compare(token_total_variation, student, teacher)
