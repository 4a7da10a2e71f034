"""Transformed teacher matching: temperature on the teacher's side alone, which regularises the student.

Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024,
https://arxiv.org/abs/2402.11148.

    loss = U KL(p || softmax(z_s)),    p = softmax(gamma z_t),  U = 1, or sum_k softmax(z_t)_k^gamma where weighted

one value per prediction: per token, or per example where the batch is not of tokens. softmax(gamma z_t) is the
teacher's distribution to the power gamma, normalised, as at temperature 1 / gamma; next to KD, which softens the
student too, it adds a Renyi entropy of the student to what is minimised. The power sum U, large where the teacher is
unsure, makes the weighted form. gamma = 0.1, unweighted, is the example of the authors' repository (there with weight
45 beside cross-entropy of weight 1); the paper tunes both.

Elsewhere: the authors' code agrees but takes powers of probabilities, which round to 0 where ours are logarithms.
"""

import jax
import jax.numpy as jnp

from jaxdistill.core import precise
from jaxdistill.errors import UserError
from jaxdistill.losses import divergence
from jaxdistill.modules.next_token import NextToken


def ttm(student: jax.Array, teacher: jax.Array, gamma: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, classes]`."""
    return divergence.kl(gamma * precise(teacher), student)


def power_sum(teacher: jax.Array, gamma: float) -> jax.Array:
    """Returns sum_k p_k^gamma, `[*n]`, between 1 and classes^(1 - gamma), for logits `[*n, classes]`."""
    return jnp.exp(jax.nn.logsumexp(gamma * divergence.log_probabilities(teacher), -1))


class TTM(NextToken):
    """`gamma` is the power of the teacher's distribution; `weighted` is the paper's WTTM."""

    gamma: float = 0.1
    weighted: bool = False

    def check(self):
        super().check()
        if not 0 < self.gamma <= 1:
            raise UserError(f"gamma={self.gamma} makes no sense; it is greater than 0, and at most 1")

    def __call__(self, student, teacher, batch):
        def loss(own, other):
            value = ttm(own, other, self.gamma)
            return power_sum(other, self.gamma) * value if self.weighted else value

        return self.compare(loss, student, teacher)
