"""Total variation distillation.

Wen, Li, Du, Mou, "f-Divergence Minimization for Sequence-Level Knowledge Distillation", ACL 2023,
https://arxiv.org/abs/2307.15190

    loss = 1/2 sum_k |softmax(z_t)_k - softmax(z_s)_k|

It is symmetric and at most 1, reached if the two have no class in common; there the gradient is 0, so that a student
far from a confident teacher needs another term beside this one. The paper's is over sequences and is bounded by the sum
over their words, here one value per prediction. The paper has no temperature: `temperature` is 1.

Elsewhere: DistiLLM's `tv_distance` agrees.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import TemperedLogitsMethod


def total_variation(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], temperature: Scalar = 1.0
) -> Float[Array, "*n"]:
    """Returns values from 0 to 1."""
    return divergence.total_variation(precise(teacher) / temperature, precise(student) / temperature)


class TotalVariation(TemperedLogitsMethod):
    """`temperature` divides both logits."""

    zero_at_teacher = True

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(lambda s, t: total_variation(s, t, self.temperature), student, teacher, batch=batch)
