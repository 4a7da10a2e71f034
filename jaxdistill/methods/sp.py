"""Similarity preserving: inputs that are alike to the teacher are alike to the student.

Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, https://arxiv.org/abs/1907.09682

    loss = 1 / B^2 || G_s / ||G_s|| - G_t / ||G_t|| ||_F^2,    G = F F^T

for features F of a batch of B, `[B, everything else]`; the norms are each row's. Added over the pairs of layers; the
default is the paper's for its networks on CIFAR, the activations of the last convolution (equations 2 to 4). Widths and
sizes may differ. An example's value is its row, times B, so that the mean over examples is the loss; the paper's weight
for it is 3000.

Elsewhere: RepDistiller, mdistiller and KD-Zoo (a mean over the matrix) agree. torchdistill divides the rows by their L1
norms, by an argument in the wrong place.
"""

import flax.linen as nn
import jax

from jaxdistill.core import Method
from jaxdistill.losses import distance, relation
from jaxdistill.modules import layer_mapping


def similarities(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns `[batch, batch]`, rows of norm 1 or 0, for `[batch, ...]` and the mask `[batch]`."""
    return distance.normalize(relation.gram(relation.rows(x, mask)))


def sp(student: jax.Array, teacher: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns `[batch]` for features `[batch, ...]`; the mean over the rows of the mask is the loss."""
    return relation.share((similarities(student, mask) - similarities(teacher, mask)) ** 2, mask)


class SP(Method):
    """`layers` names the features whose similarities are kept."""

    layers: str = "stage3"
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student, teacher, batch):
        return layer_mapping.over(self, student, teacher, lambda own, other, name: sp(own, other, batch["mask"]))
