"""Transformed teacher matching.

Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024,
https://arxiv.org/abs/2402.11148.

    loss = U KL(p || softmax(z_s)),    p = softmax(gamma z_t),  U = 1, or sum_k softmax(z_t)_k^gamma if `weighted`

The temperature is on the teacher's side alone: softmax(gamma z_t) is the teacher's distribution to the power gamma,
normalised, as at temperature 1 / gamma. Next to KD, which softens the student too, it adds a Renyi entropy of the
student to what is minimised. The power sum U is large if the teacher is uncertain. gamma = 0.1, unweighted, is the
example of the authors' repository (there with weight 45 beside cross-entropy of weight 1); the paper tunes both.

Elsewhere: the authors' code agrees but takes powers of probabilities, which round to 0 where ours are logarithms.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import UserError
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import LogitsMethod


def ttm(student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], gamma: Scalar) -> Float[Array, "*n"]:
    """Returns nats."""
    return divergence.kl(gamma * precise(teacher), student)


def power_sum(teacher: Float[Array, "*n classes"], gamma: Scalar) -> Float[Array, "*n"]:
    """Returns sum_k p_k^gamma for logits, between 1 and classes^(1 - gamma)."""
    return jnp.exp(jax.nn.logsumexp(gamma * divergence.log_probabilities(teacher), -1))


class TTM(LogitsMethod):
    """`gamma` is the power of the teacher's distribution; `weighted` is the paper's WTTM."""

    gamma: Scalar = 0.1
    weighted: bool = False

    def check(self) -> None:
        super().check()
        if not 0 < self.gamma <= 1:
            raise UserError(f"gamma must be in (0, 1], got {self.gamma}.")

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def loss(student: Array, teacher: Array) -> Array:
            value = ttm(student, teacher, self.gamma)
            return power_sum(teacher, self.gamma) * value if self.weighted else value

        return self.compare(loss, student, teacher, batch=batch)
