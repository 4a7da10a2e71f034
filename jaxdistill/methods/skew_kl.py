"""Skew KL divergence.

Ko, Kim, Chen, Yun, "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML 2024, section 3.1,
https://arxiv.org/abs/2402.03898.

    loss = T^2 KL(P || share P + (1 - share) Q),    P = softmax(z_t / T), Q = softmax(z_s / T)
    loss = T^2 KL(Q || share Q + (1 - share) P)     (reverse)

at most - T^2 log(share), so that gradients stay small for classes that are likely for the teacher and impossible for
the student; the reverse one's also flow through the student's part of the mixture. At share 0 they are the forward
and the reverse KL. The paper has T = 1.

Elsewhere: DistiLLM's `skewed_forward_kl` is the cross-entropy with the mixture, larger by the teacher's entropy; its
`skewed_reverse_kl` agrees; both take the logarithm of added probabilities. DSKD agrees but for T^2, and adds tokens up.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_fraction
from jaxdistill.losses import mixture
from jaxdistill.modules.logits_method import TemperedLogitsMethod


def skew_kl(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], share: Scalar, temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns nats; exchange student and teacher for the reverse one."""
    return temperature**2 * mixture.kl(precise(teacher) / temperature, precise(student) / temperature, 1 - share)


class SkewKL(TemperedLogitsMethod):
    """`share` is the fraction of the teacher in the mixture, or with `reverse` of the student."""

    share: Scalar = 0.1
    reverse: bool = False
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_fraction("share", self.share)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        def loss(student: Array, teacher: Array) -> Array:
            pair = (teacher, student) if self.reverse else (student, teacher)
            return skew_kl(*pair, self.share, self.temperature)

        return self.compare(loss, student, teacher, batch=batch)
