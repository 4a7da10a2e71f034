"""Weak-to-strong training with an auxiliary confidence loss.

Burns et al., "Weak-to-Strong Generalization: Eliciting Strong Capabilities With Weak Supervision", ICML 2024,
https://arxiv.org/abs/2312.09390, section 4.3 and appendix A.4.

    loss = (1 - c) CE(p_weak, student) + c CE(k, student)        k = the student's own likeliest class

A small teacher supervises a larger student, which is pulled towards its own prediction by c, so that it need not copy
its teacher's errors. The paper raises c from 0 to its end over the first 20 % of training: set
`confidence=dict(to=0.5, over_share=0.2)`. The paper's end is 0.75 for the strongest students, 0.5 for others.

Elsewhere: the authors' code (for two classes) hardens the student's prediction at a threshold that gives the batch as
many of each class as the teacher predicts, so that it cannot collapse to one class; here it is the argmax, which is
independent of the batch. It raises c over the first tenth of training, to 0.5.
"""

import jax
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar
from jaxdistill.errors import check_between
from jaxdistill.losses import divergence
from jaxdistill.methods.hard_label import hard_label
from jaxdistill.modules.logits_method import LogitsMethod


def weak_to_strong(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], confidence: Scalar
) -> Float[Array, "*n"]:
    """Returns the cross-entropies with the teacher and with the student's own hardened prediction, mixed.

    Args:
        student: logits.
        teacher: logits.
        confidence: the fraction of the student's own prediction, 0 to 1.

    Returns:
        Nats. No gradient flows through the hardened prediction.
    """
    from_teacher = divergence.soft_cross_entropy(jax.lax.stop_gradient(teacher), student)
    return (1 - confidence) * from_teacher + confidence * hard_label(student, student)


class WeakToStrong(LogitsMethod):
    """`confidence` weighs the student's own prediction; it may be a schedule."""

    confidence: Scalar = 0.5

    def check(self) -> None:
        super().check()
        check_between("confidence", self.confidence, 0, 1)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(lambda s, t: weak_to_strong(s, t, self.confidence), student, teacher, batch=batch)
