"""Temporally adaptive interpolated distillation: a target that moves from the student itself to its teacher.

Shing, Misaki, Bao, Yokoi, Akiba, "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer
in Language Models", ICLR 2025, https://arxiv.org/abs/2501.16937.

    loss = KL(softmax((1 - share) sg(z_s) + share z_t) || softmax(z_s))

one value per token; `sg` stops gradients. share is the paper's t, which grows from `t_start` (0.4, here the default) to
1 over the run: schedule it, as in `share=dict(start=0.4, to=1.0, over=10_000)`. The paper lets it grow faster while the
loss falls, through a momentum of the loss's relative changes; a method sees no loss of steps before, so that ours is
the linear schedule which bounds the paper's from below.

Elsewhere: the authors' code minimises the cross-entropy, which has the same gradient and is larger by the target's
entropy.
"""

import jax

from jaxdistill.core import precise
from jaxdistill.errors import check_between
from jaxdistill.losses import divergence
from jaxdistill.modules.next_token import NextToken


def taid(student: jax.Array, teacher: jax.Array, share: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]`; `share` is the teacher's in the target."""
    student, teacher = precise(student), precise(teacher)
    target = (1 - share) * jax.lax.stop_gradient(student) + share * teacher
    return divergence.kl(target, student)


class TAID(NextToken):
    """`share` is the teacher's in the target, to be scheduled."""

    share: float = 0.4
    zero_at_teacher = True

    def check(self):
        super().check()
        check_between("share", self.share, 0, 1)

    def __call__(self, student, teacher, batch):
        return self.compare(lambda s, t: taid(s, t, self.share), student, teacher)
