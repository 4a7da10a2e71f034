"""Distillation by Pearson correlation (PKD).

Cao, Zhang, Gao, Cheng, Cheng, Zhang, "PKD: General Distillation Framework for Object Detectors via Pearson Correlation
Coefficient", NeurIPS 2022, https://arxiv.org/abs/2207.02039

    loss = 1/2 mean over elements of (norm(s) - norm(t))^2,    norm(x_c) = (x_c - mean(x_c)) / (std(x_c) + eps)

added over the pairs of layers: each channel correlates with the teacher's, whatever its scale and offset. The mean and
the standard deviation of a channel are over all places of all examples, the second with n - 1 below, so that the loss
is (n - 1) / n (1 - r), averaged over channels, with r the correlation of the n values of a channel: 1 - r in the paper.
An example's value is the part of its own places. A constant channel becomes 0.

The student's map is resized to the teacher's. The paper's maps are those of a feature pyramid, with equal channels on
both sides: if the widths differ, a 1 x 1 convolution gives the student the teacher's.

Elsewhere: MMRazor has the authors' code, and agrees; it can resize the teacher's map to the student's instead. The
"PKD" of BERT is another method, `patient_kd`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.losses import distance
from jaxdistill.modules import adapters, layer_mapping

EPS = 1e-6
Map = Float[Array, "batch height width channels"]


def standardize(x: Map, mask: Float[Array, " batch"], eps: Scalar = EPS) -> Map:
    """Subtracts each channel's mean and divides by its standard deviation (n - 1) plus `eps`; masked examples are 0."""
    valid = (mask > 0).reshape(-1, 1, 1, 1)
    count = jnp.maximum(jnp.sum(valid) * (x.shape[1] * x.shape[2]), 1).astype(x.dtype)
    mean = jnp.sum(jnp.where(valid, x, 0.0), (0, 1, 2), keepdims=True) / count
    centred = jnp.where(valid, x - mean, 0.0)
    root = jnp.sqrt(count - 1)
    return root * distance.normalize(centred, (0, 1, 2), eps * root)


def pearson_kd(student: Map, teacher: Map, mask: Float[Array, " batch"], eps: Scalar = EPS) -> Float[Array, " batch"]:
    """Returns each example's part of the loss for two maps of one shape."""
    return distance.mean_squared(standardize(student, mask, eps), standardize(teacher, mask, eps)) / 2


class PearsonKD(Method):
    """`layers` are maps of features."""

    layers: str = "stage1,stage2,stage3"
    same_classes = False
    needs_whole_batch = True
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            student_map, teacher_map = adapters.to_grid(student_map), adapters.to_grid(teacher_map)
            student_map = adapters.resize(student_map, teacher_map.shape[1:3])
            if student_map.shape != teacher_map.shape:
                student_map = adapters.match(student_map, teacher_map, name)
            return pearson_kd(student_map, teacher_map, batch["mask"])

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
