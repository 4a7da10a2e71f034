"""SimKD: the student's last map, projected, gives its teacher's, and the teacher's own classifier reads it.

Chen, Mei, Zhang, Wang, Feng, Chen, "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
https://arxiv.org/abs/2203.14001

    loss = mean over elements of (projector(F_s) - F_t)^2

The student of this term is a network of source "reuse": its tap `projected` is the projected map, and its logits are
what the teacher's classifier says of it. It is that network which is evaluated; the paper has no other term, and its
projector is part of the student. The larger map is averaged to the size of the smaller.

Where the two widths differ, since `layers` names taps that no such network has projected, a 1 x 1 convolution matches
them, which no classifier reads.

Elsewhere: the authors' code agrees, with weight 1 and those of labels and KD at 0.
"""

import flax.linen as nn
import jax

from jaxdistill.core import Method
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping


def simkd(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[batch]`, the mean squared difference, for two `[batch, ..., channels]` of one shape."""
    return distance.mean_squared(student, teacher)


class SimKD(Method):
    """`layers` pairs the projected tap with the teacher's."""

    layers: str = "projected=stage3"
    same_classes = False

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            if own.ndim == other.ndim == 4:
                own, other = spatial.to_smaller(own, other)
            return simkd(own if own.shape == other.shape else adapters.match(own, other, name), other)

        return layer_mapping.over(self, student, teacher, loss)
