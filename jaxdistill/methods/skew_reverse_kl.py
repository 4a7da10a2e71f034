"""Skew reverse KL: the student is compared with a teacher that has a little of the student mixed in.

Ko, Kim, Chen, Yun, "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML 2024, section 3.1,
https://arxiv.org/abs/2402.03898.

    loss = T^2 KL(Q || share Q + (1 - share) P),    P = softmax(z_t / T), Q = softmax(z_s / T)

one value per token, at most - T^2 log(share); gradients flow through the student's part of the mixture too. At share 0
it is the reverse KL. The paper has T = 1.

Elsewhere: DistiLLM's `skewed_reverse_kl` agrees, and takes the logarithm of added probabilities. DSKD agrees but for
T^2, and adds tokens up.
"""

import jax

from jaxdistill.core import precise
from jaxdistill.errors import check_share
from jaxdistill.losses import mixture
from jaxdistill.next_token import TemperedNextToken


def skew_reverse_kl(student: jax.Array, teacher: jax.Array, share: float, temperature: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]`; `share` is the student's in the mixture."""
    return temperature**2 * mixture.kl(precise(student) / temperature, precise(teacher) / temperature, 1 - share)


class SkewReverseKL(TemperedNextToken):
    """`share` is the student's in the mixture; `temperature` divides both logits."""

    share: float = 0.1
    zero_at_teacher = True

    def check(self):
        super().check()
        check_share("share", self.share)

    def __call__(self, student, teacher, batch):
        return self.compare(lambda s, t: skew_reverse_kl(s, t, self.share, self.temperature), student, teacher)
