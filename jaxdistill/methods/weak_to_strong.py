"""Weak-to-strong training with a confidence term.

Burns et al., "Weak-to-Strong Generalization: Eliciting Strong Capabilities With Weak Supervision", ICML 2024,
https://arxiv.org/abs/2312.09390, section 4.3 and appendix A.4.

    loss = (1 - c) CE(p_weak, student) + c CE(own, student)        own = the student's own likeliest class

A small teacher supervises a larger student, which is pulled towards its own opinion by c, so that it need not copy its
teacher's errors. The paper raises c from 0 to its end over the first 20 % of training: give
`confidence=dict(to=0.5, over_share=0.2)`. The paper's end is 0.75 for the strongest students, 0.5 for others.

Elsewhere: the authors' code (for two classes) hardens the student's opinion at a threshold at which the batch has as
many of each class as the teacher says, so that it cannot collapse to one class; here it is the argmax, which has no
need of the batch. It raises c over the first tenth of training, to 0.5.
"""

import jax

from jaxdistill.core import Method
from jaxdistill.errors import check_between
from jaxdistill.losses import divergence
from jaxdistill.methods.hard_label import hard_label


def weak_to_strong(student: jax.Array, teacher: jax.Array, confidence: jax.Array | float) -> jax.Array:
    """Returns the cross-entropy with the teacher's and the student's own hardened opinion, mixed.

    Args:
        student, teacher: logits `[*n, classes]`.
        confidence: the share of the student's own opinion, 0 to 1.

    Returns:
        `[*n]`, nats. No gradient flows through the opinion.
    """
    taught = divergence.soft_cross_entropy(jax.lax.stop_gradient(teacher), student)
    return (1 - confidence) * taught + confidence * hard_label(student, student)


class WeakToStrong(Method):
    """The mixture; `confidence` may be a schedule."""

    confidence: float = 0.5

    def check(self):
        check_between("confidence", self.confidence, 0, 1)

    def __call__(self, student, teacher, batch):
        return weak_to_strong(student.logits, teacher.logits, self.confidence)
