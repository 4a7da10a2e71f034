"""Similarity-preserving knowledge distillation (SP).

Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, https://arxiv.org/abs/1907.09682

    loss = 1 / B^2 || G_s / ||G_s|| - G_t / ||G_t|| ||_F^2,    G = F F^T

for features F of a batch of B, `[B, everything else]`: the similarities between the examples of a batch match. Each row
has its own norm. Added over the pairs of layers; the default is the paper's for its networks on CIFAR, the activations
of the last convolution (equations 2 to 4). Widths and sizes may differ. An example's value is its row, times B, so that
the mean over examples is the loss; the paper's weight for it is 3000.

Elsewhere: RepDistiller, mdistiller and KD-Zoo (a mean over the matrix) agree. torchdistill divides the rows by their L1
norms, by an argument in the wrong place.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.losses import distance, relation
from jaxdistill.modules import layer_mapping


def similarities(x: Float[Array, " batch *shape"], mask: Float[Array, " batch"]) -> Float[Array, "batch batch"]:
    """Returns G with rows of norm 1, or 0."""
    return distance.normalize(relation.gram(relation.rows(x, mask)))


def sp(
    student: Float[Array, " batch *student_shape"],
    teacher: Float[Array, " batch *teacher_shape"],
    mask: Float[Array, " batch"],
) -> Float[Array, " batch"]:
    """Returns each example's part of the loss, which is the mean over the rows of the mask."""
    return relation.row_means((similarities(student, mask) - similarities(teacher, mask)) ** 2, mask)


class SP(Method):
    """`layers` names the features whose similarities are compared."""

    layers: str = "stage3"
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        return layer_mapping.sum_over_pairs(self, student, teacher, lambda s, t, name: sp(s, t, batch["mask"]))
