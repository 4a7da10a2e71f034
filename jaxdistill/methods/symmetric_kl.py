"""Symmetric KL: forward and reverse KL in one, Jeffreys' divergence at equal shares.

Jeffreys, "An Invariant Form for the Prior Probability in Estimation Problems", Proceedings of the Royal Society A,
1946, https://doi.org/10.1098/rspa.1946.0056; with shares in the code of Ko et al., "DistiLLM", ICML 2024,
https://arxiv.org/abs/2402.03898.

    loss = T^2 [(1 - share) KL(P || Q) + share KL(Q || P)],    P = softmax(z_t / T), Q = softmax(z_s / T)

one value per token. At share 1/2 it is half of Jeffreys' divergence and treats both sides alike.

Elsewhere: DistiLLM's `symmetric_kl` has the cross-entropy as its forward part, larger by the teacher's entropy, and
share 0.9 as its default.
"""

import jax

from jaxdistill.errors import check_between
from jaxdistill.methods.forward_kl import forward_kl
from jaxdistill.methods.reverse_kl import reverse_kl
from jaxdistill.modules.next_token import TemperedNextToken


def symmetric_kl(student: jax.Array, teacher: jax.Array, share: float, temperature: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]`; `share` is the reverse KL's."""
    forward, reverse = forward_kl(student, teacher, temperature), reverse_kl(student, teacher, temperature)
    return (1 - share) * forward + share * reverse


class SymmetricKL(TemperedNextToken):
    """`share` is the reverse KL's; `temperature` divides both logits."""

    share: float = 0.5
    zero_at_teacher = True

    def check(self):
        super().check()
        check_between("share", self.share, 0, 1)

    def __call__(self, student, teacher, batch):
        return self.compare(lambda s, t: symmetric_kl(s, t, self.share, self.temperature), student, teacher)
