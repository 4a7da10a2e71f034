"""Probabilistic knowledge transfer: who is near to whom, as a distribution.

Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
https://arxiv.org/abs/1803.10837

    loss = 1 / B^2 sum_ij p_ij log (p_ij + eps) / (q_ij + eps),    p_ij = k_ij / sum_j k_ij,    k = (1 + cos) / 2

p of the teacher's features, q of the student's: how likely example i picks example j as its neighbour. The paper adds
up the divergences of the B examples and leaves i = j out; the authors' code averages over all B^2, with it. So do we:
an example's value is its divergence over B, and the weight of 30000 of the CRD benchmark goes with that. Widths may
differ. eps stays, since a kernel that is not exponential can be 0.

Elsewhere: RepDistiller, mdistiller and torchdistill agree; KD-Zoo's eps is 1e-6. All have a gradient that is not a
number where the features of an example are 0; ours is 0 there.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError
from jaxdistill.losses import distance, relation
from jaxdistill.modules import layer_mapping


def neighbours(x: jax.Array, mask: jax.Array, eps: float) -> jax.Array:
    """Returns `[batch, batch]`, each row a distribution over the rows of the mask, for features `[batch, ...]`."""
    cosine = relation.gram(distance.normalize(relation.rows(x, mask), eps=eps))
    kernel = jnp.where(mask[None] > 0, (1 + cosine) / 2, 0.0)
    total = jnp.sum(kernel, 1, keepdims=True)
    return kernel / jnp.where(total > 0, total, 1.0)


def pkt(student: jax.Array, teacher: jax.Array, mask: jax.Array, eps: float) -> jax.Array:
    """Returns `[batch]` for features `[batch, ...]`; the mean over the rows of the mask is the loss.

    `eps` is added to norms and probabilities.
    """
    own, other = neighbours(student, mask, eps), neighbours(teacher, mask, eps)
    return relation.share(other * jnp.log((other + eps) / (own + eps)), mask)


class PKT(Method):
    """`eps` keeps the logarithm away from 0."""

    layers: str = "pooled"
    eps: float = 1e-7
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self):
        if not 0 < self.eps < 1:
            raise UserError(f"eps={self.eps} makes no sense; it is small and greater than 0, like 1e-7")

    @nn.compact
    def __call__(self, student, teacher, batch):
        return layer_mapping.over(
            self, student, teacher, lambda own, other, name: pkt(own, other, batch["mask"], self.eps)
        )
