"""Knowledge distillation with the reused teacher classifier (SimKD).

Chen, Mei, Zhang, Wang, Feng, Chen, "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
https://arxiv.org/abs/2203.14001

    loss = mean over elements of (projector(F_s) - F_t)^2

The student of this term is a network of source "reused_classifier": its tap `projected` is the projected map, and its
logits are the outputs of the teacher's classifier for that map. This network is evaluated; the paper has no other term,
and its projector is part of the student. The larger map is averaged to the size of the smaller.

If `layers` names taps of other networks and their widths differ, a 1 x 1 convolution matches them, which no classifier
uses.

Elsewhere: the authors' code agrees, with weight 1 and weights 0 for labels and KD.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping


def simkd(student: Float[Array, " batch *shape"], teacher: Float[Array, " batch *shape"]) -> Float[Array, " batch"]:
    """Returns the mean squared difference over the elements of each example."""
    return distance.mean_squared(student, teacher)


class SimKD(Method):
    """`layers` pairs the projected tap with the teacher's."""

    layers: str = "projected=stage3"
    same_classes = False

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            if student_map.ndim == teacher_map.ndim == 4:
                student_map, teacher_map = spatial.to_smaller(student_map, teacher_map)
            if student_map.shape != teacher_map.shape:
                student_map = adapters.match(student_map, teacher_map, name)
            return simkd(student_map, teacher_map)

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
