"""Relational knowledge distillation (RKD).

Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, https://arxiv.org/abs/1904.05068

    loss = w_d mean_ij h(d^s_ij - d^t_ij) + w_a mean_ijk h(a^s_ijk - a^t_ijk)

    d_ij = |f_i - f_j| / mean,    a_ijk = cos of the angle at i between f_j and f_k,    h = smooth L1

The mean that divides the distances is that of each network, over all pairs of two examples. The paper adds over tuples
of different examples; its code averages over all B^2 and B^3, also those of equal indices, which add nothing. This is
the code's form with its weights of 1 and 2; the CRD benchmark uses 25 and 50. Widths may differ. An example's value is
its part of the sums, times B, so that the mean over examples is the loss. It takes memory for B^3 numbers and for B^2
times the width, 2.6 GB for 256 embeddings of 2,048.

Elsewhere: RepDistiller and torchdistill agree with the authors' code. mdistiller can square the distances (`squared`).
MMRazor L2-normalises the embeddings first and lets gradients reach the teacher. All compute distances from a Gram
matrix and clip squared distances at 1e-12, so that equal examples are 1e-6 apart; here they are 0 apart, with zero
gradient.
"""

import flax.linen as nn
import optax
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import UserError, check_least
from jaxdistill.losses import relation
from jaxdistill.modules import layer_mapping


def distance(
    student: Float[Array, " batch *student_shape"],
    teacher: Float[Array, " batch *teacher_shape"],
    mask: Float[Array, " batch"],
    squared: bool = False,
) -> Float[Array, " batch"]:
    """Returns each example's part of the distance term, which is the mean over the rows of the mask."""
    d_s, d_t = (relation.distances(relation.rows(x, mask), mask, squared) for x in (student, teacher))
    return relation.row_means(optax.losses.huber_loss(d_s, d_t), mask)


def angle(
    student: Float[Array, " batch *student_shape"],
    teacher: Float[Array, " batch *teacher_shape"],
    mask: Float[Array, " batch"],
) -> Float[Array, " batch"]:
    """Returns each example's part of the angle term, which is the mean over the rows of the mask."""
    a_s, a_t = (relation.angles(relation.rows(x, mask)) for x in (student, teacher))
    return relation.row_means(optax.losses.huber_loss(a_s, a_t), mask)


class RKD(Method):
    """`distance_weight` and `angle_weight` are w_d and w_a; `squared` compares squared distances."""

    layers: str = "pooled"
    distance_weight: Scalar = 1.0
    angle_weight: Scalar = 2.0
    squared: bool = False
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self) -> None:
        check_least("distance_weight", self.distance_weight, 0)
        check_least("angle_weight", self.angle_weight, 0)
        if self.distance_weight == self.angle_weight == 0:
            raise UserError(
                "distance_weight and angle_weight must not both be 0, which leaves no loss; set one above 0"
            )

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_features: Array, teacher_features: Array, name: str) -> Array:
            sides = student_features, teacher_features
            distances = self.distance_weight * distance(*sides, batch["mask"], self.squared)
            return distances + self.angle_weight * angle(*sides, batch["mask"])

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
