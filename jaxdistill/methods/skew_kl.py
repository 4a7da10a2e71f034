"""Skew KL: the teacher is compared with a student that has a little of the teacher mixed in.

Ko, Kim, Chen, Yun, "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML 2024, section 3.1,
https://arxiv.org/abs/2402.03898.

    loss = T^2 KL(P || share P + (1 - share) Q),    P = softmax(z_t / T), Q = softmax(z_s / T)

one value per token, at most - T^2 log(share), so that gradients stay small where the student finds impossible what its
teacher says. At share 0 it is the forward KL. The paper has T = 1.

Elsewhere: DistiLLM's `skewed_forward_kl` is the cross-entropy with the mixture, larger by the teacher's entropy, and
takes the logarithm of added probabilities. DSKD agrees but for T^2, and adds tokens up.
"""

import jax

from jaxdistill.core import precise
from jaxdistill.errors import check_share
from jaxdistill.losses import mixture
from jaxdistill.next_token import TemperedNextToken


def skew_kl(student: jax.Array, teacher: jax.Array, share: float, temperature: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]`; `share` is the teacher's in the mixture."""
    return temperature**2 * mixture.kl(precise(teacher) / temperature, precise(student) / temperature, 1 - share)


class SkewKL(TemperedNextToken):
    """`share` is the teacher's in the mixture; `temperature` divides both logits."""

    share: float = 0.1
    zero_at_teacher = True

    def check(self):
        super().check()
        check_share("share", self.share)

    def __call__(self, student, teacher, batch):
        return self.compare(lambda s, t: skew_kl(s, t, self.share, self.temperature), student, teacher)
