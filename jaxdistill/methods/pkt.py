"""Probabilistic knowledge transfer (PKT).

Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
https://arxiv.org/abs/1803.10837

    loss = 1 / B^2 sum_ij p_ij log (p_ij + eps) / (q_ij + eps),    p_ij = k_ij / sum_j k_ij,    k = (1 + cos) / 2

p of the teacher's features, q of the student's: the probability that example i picks example j as its neighbour. The
paper adds the divergences of the B examples without i = j; the authors' code averages over all B^2, with it, as here:
an example's value is its divergence over B, and the weight of 30000 of the CRD benchmark goes with that. Widths may
differ. eps is needed, since a kernel that is not exponential can be 0.

Elsewhere: RepDistiller, mdistiller and torchdistill agree; KD-Zoo's eps is 1e-6. Their gradients are NaN if the
features of an example are 0; here they are 0.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import UserError
from jaxdistill.losses import distance, relation
from jaxdistill.modules import layer_mapping


def neighbours(
    x: Float[Array, " batch *shape"], mask: Float[Array, " batch"], eps: Scalar
) -> Float[Array, "batch batch"]:
    """Returns the distributions p of features, each over the rows of the mask."""
    cosine = relation.gram(distance.normalize(relation.rows(x, mask), eps=eps))
    kernel = jnp.where(mask[None] > 0, (1 + cosine) / 2, 0.0)
    total = jnp.sum(kernel, 1, keepdims=True)
    return kernel / jnp.where(total > 0, total, 1.0)


def pkt(
    student: Float[Array, " batch *student_shape"],
    teacher: Float[Array, " batch *teacher_shape"],
    mask: Float[Array, " batch"],
    eps: Scalar,
) -> Float[Array, " batch"]:
    """Returns each example's part of the loss, which is the mean over the rows of the mask.

    `eps` is added to norms and probabilities.
    """
    q, p = neighbours(student, mask, eps), neighbours(teacher, mask, eps)
    return relation.row_means(p * jnp.log((p + eps) / (q + eps)), mask)


class PKT(Method):
    """`eps` keeps the logarithm away from 0."""

    layers: str = "pooled"
    eps: Scalar = 1e-7
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self) -> None:
        if not 0 < self.eps < 1:
            raise UserError(f"eps must be small and in (0, 1), like 1e-7, got {self.eps}")

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        return layer_mapping.sum_over_pairs(
            self, student, teacher, lambda s, t, name: pkt(s, t, batch["mask"], self.eps)
        )
