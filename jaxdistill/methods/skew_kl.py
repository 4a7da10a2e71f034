"""Skew KL: the two are compared with a little of the first mixed into the second.

Ko, Kim, Chen, Yun, "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML 2024, section 3.1,
https://arxiv.org/abs/2402.03898.

    loss = T^2 KL(P || share P + (1 - share) Q),    P = softmax(z_t / T), Q = softmax(z_s / T)
    loss = T^2 KL(Q || share Q + (1 - share) P)     (reverse)

one value per token, at most - T^2 log(share), so that gradients stay small where the student finds impossible what its
teacher says; the reverse one's also flow through the student's part of the mixture. At share 0 they are the forward
and the reverse KL. The paper has T = 1.

Elsewhere: DistiLLM's `skewed_forward_kl` is the cross-entropy with the mixture, larger by the teacher's entropy; its
`skewed_reverse_kl` agrees; both take the logarithm of added probabilities. DSKD agrees but for T^2, and adds tokens up.
"""

import jax

from jaxdistill.core import precise
from jaxdistill.errors import check_fraction
from jaxdistill.losses import mixture
from jaxdistill.modules.next_token import TemperedNextToken


def skew_kl(student: jax.Array, teacher: jax.Array, share: float, temperature: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]`; exchange student and teacher for the reverse one."""
    return temperature**2 * mixture.kl(precise(teacher) / temperature, precise(student) / temperature, 1 - share)


class SkewKL(TemperedNextToken):
    """`share` is the first's in the mixture: the teacher's, or with `reverse` the student's."""

    share: float = 0.1
    reverse: bool = False
    zero_at_teacher = True

    def check(self):
        super().check()
        check_fraction("share", self.share)

    def __call__(self, student, teacher, batch):
        def loss(own, other):
            first, second = (other, own) if self.reverse else (own, other)
            return skew_kl(first, second, self.share, self.temperature)

        return self.compare(loss, student, teacher)
