"""Symmetric KL, Jeffreys' divergence.

Jeffreys, "An Invariant Form for the Prior Probability in Estimation Problems", Proceedings of the Royal Society A,
1946, https://doi.org/10.1098/rspa.1946.0056; with weights in the code of Ko et al., "DistiLLM", ICML 2024,
https://arxiv.org/abs/2402.03898.

    loss = T^2 [(1 - share) KL(P || Q) + share KL(Q || P)],    P = softmax(z_t / T), Q = softmax(z_s / T)

At share 1/2 it is half of Jeffreys' divergence and treats both sides alike.

Elsewhere: DistiLLM's `symmetric_kl` has the cross-entropy as its forward part, larger by the teacher's entropy, and
share 0.9 as its default.
"""

from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar
from jaxdistill.errors import check_between
from jaxdistill.methods.forward_kl import forward_kl
from jaxdistill.methods.reverse_kl import reverse_kl
from jaxdistill.modules.logits_method import TemperedLogitsMethod


def symmetric_kl(
    student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], share: Scalar, temperature: Scalar
) -> Float[Array, "*n"]:
    """Returns nats; `share` is the weight of the reverse KL."""
    forward, reverse = forward_kl(student, teacher, temperature), reverse_kl(student, teacher, temperature)
    return (1 - share) * forward + share * reverse


class SymmetricKL(TemperedLogitsMethod):
    """`share` is the weight of the reverse KL; `temperature` divides both logits."""

    share: Scalar = 0.5
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_between("share", self.share, 0, 1)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(
            lambda s, t: symmetric_kl(s, t, self.share, self.temperature), student, teacher, batch=batch
        )
