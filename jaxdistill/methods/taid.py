"""Temporally adaptive interpolated distillation.

Shing, Misaki, Bao, Yokoi, Akiba, "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer
in Language Models", ICLR 2025, https://arxiv.org/abs/2501.16937.

    loss = KL(softmax((1 - share) sg(z_s) + share z_t) || softmax(z_s))

`sg` stops gradients. The target moves from the student itself to its teacher: share is the paper's t, which grows from
`t_start` (0.4, here the default) to 1 over the run: `share=dict(start=0.4, to=1.0, over=10_000)`. The paper's grows
faster while the loss falls, through a momentum of the loss's relative changes; a method has no access to earlier
losses, so that ours is the linear schedule, a lower bound of the paper's.

Elsewhere: the authors' code minimises the cross-entropy, which has the same gradient and is larger by the target's
entropy.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Output, Scalar, precise
from jaxdistill.errors import check_between
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import LogitsMethod


def taid(student: Float[Array, "*n classes"], teacher: Float[Array, "*n classes"], share: Scalar) -> Float[Array, "*n"]:
    """Returns nats; `share` is the fraction of the teacher in the target."""
    student, teacher = precise(student), precise(teacher)
    share = jnp.asarray(share, student.dtype)
    # A logit of -inf has no part in the target where its fraction is 0.
    target = divergence.weighted(1 - share, jax.lax.stop_gradient(student)) + divergence.weighted(share, teacher)
    return divergence.kl(target, student)


class TAID(LogitsMethod):
    """`share` is the fraction of the teacher in the target, to be scheduled."""

    share: Scalar = 0.4
    zero_at_teacher = True

    def check(self) -> None:
        super().check()
        check_between("share", self.share, 0, 1)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "*n"]:
        return self.compare(lambda s, t: taid(s, t, self.share), student, teacher, batch=batch)
