"""Relational knowledge distillation: distances and angles between the embeddings of a batch.

Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, https://arxiv.org/abs/1904.05068

    loss = w_d mean_ij h(d^s_ij - d^t_ij) + w_a mean_ijk h(a^s_ijk - a^t_ijk)

    d_ij = |f_i - f_j| / mean,    a_ijk = cos of the angle at i between f_j and f_k,    h = smooth L1

The mean that divides the distances is over those greater than 0, each network's own. The paper adds up over tuples of
different examples; its code averages over all B^2 and B^3, also those of equal indices, which add nothing. So do we,
and the weights are its: 1 and 2, where the CRD benchmark has 25 and 50. Widths may differ. An example's value is its
part of the sums, times B, so that the mean over examples is the loss. It takes memory for B^3 numbers and for B^2
times the width, 2.6 GB for 256 embeddings of 2,048.

Elsewhere: RepDistiller and torchdistill agree with the authors' code. mdistiller can square the distances (`squared`).
MMRazor L2-normalises the embeddings first and lets gradients reach the teacher. All take distances from a Gram matrix
and let no squared distance be below 1e-12, so that equal examples are 1e-6 apart; ours are 0 apart, with zero gradient.
"""

import flax.linen as nn
import jax
import optax

from jaxdistill.core import Method
from jaxdistill.errors import UserError, check_least
from jaxdistill.losses import relation
from jaxdistill.modules import layer_mapping


def distance(student: jax.Array, teacher: jax.Array, mask: jax.Array, squared: bool = False) -> jax.Array:
    """Returns `[batch]` for embeddings `[batch, ...]`; the mean over the rows of the mask is the term of distances."""
    own, other = (relation.distances(relation.rows(x, mask), mask, squared) for x in (student, teacher))
    return relation.share(optax.losses.huber_loss(own, other), mask)


def angle(student: jax.Array, teacher: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns `[batch]` for embeddings `[batch, ...]`; the mean over the rows of the mask is the term of angles."""
    own, other = (relation.angles(relation.rows(x, mask)) for x in (student, teacher))
    return relation.share(optax.losses.huber_loss(own, other), mask)


class RKD(Method):
    """`distance_weight` and `angle_weight` are w_d and w_a; `squared` takes squared distances."""

    layers: str = "pooled"
    distance_weight: float = 1.0
    angle_weight: float = 2.0
    squared: bool = False
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self):
        check_least("distance_weight", self.distance_weight, 0)
        check_least("angle_weight", self.angle_weight, 0)
        if self.distance_weight == self.angle_weight == 0:
            raise UserError("distance_weight=0 and angle_weight=0 leave nothing to learn; set one of them above 0")

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            near = self.distance_weight * distance(own, other, batch["mask"], self.squared)
            return near + self.angle_weight * angle(own, other, batch["mask"])

        return layer_mapping.over(self, student, teacher, loss)
