"""Instance relationship graph (IRG).

Liu, Cao, Li, Yuan, Hu, Li, Duan, "Knowledge Distillation via Instance Relationship Graph", CVPR 2019,
https://openaccess.thecvf.com/content_CVPR_2019/html/Liu_Knowledge_Distillation_via_Instance_Relationship_Graph_CVPR_2019_paper.html

    loss = w_v mean (z_s - z_t)^2 + w_e mean (A_s - A_t)^2 + w_t mean (T_s - T_t)^2

    A_ij = |f_i - f_j|^2 / max,    T_i = |f_i - f'_i|^2 / max

with z the logits, f an example's features averaged over places, f' those of the next layer, the maxima over the batch.
Vertices, edges and transformations of the graphs of student and teacher match. The edges are averaged over the layers
and the transformations over consecutive ones. As in the authors' code the maxima pass no gradient and the features are
averaged over places. The two layers of a transformation have equal channels there; if they differ, neighbouring
channels of the wider one are averaged. An example's value is its part of the means, times B. The authors weight sums
over the batch; the weights here are KD-Zoo's, of means.

Elsewhere: KD-Zoo compares whole maps, pooled to the smaller size, and lets gradients through the maxima.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdistill.core import Batch, Method, Output, Scalar, precise
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, relation, spatial
from jaxdistill.modules import layer_mapping

Vectors = Float[Array, "batch _"]


def vectors(x: Float[Array, " batch *places channels"], mask: Float[Array, " batch"]) -> Float[Array, "batch channels"]:
    """Averages features over places; masked rows are 0."""
    return relation.rows(jnp.mean(x, tuple(range(1, x.ndim - 1))), mask)


def divide_by_largest(x: Float[Array, "*shape"], valid: Bool[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Divides by the largest valid entry, treated as a constant; returns 0 if that is 0."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.where(valid, x, 0.0)))
    return jnp.where(largest > 0, x / jnp.where(largest > 0, largest, 1.0), 0.0)


def edges(x: Vectors, mask: Float[Array, " batch"]) -> Float[Array, "batch batch"]:
    """Returns A."""
    return divide_by_largest(jnp.sum(relation.differences(x) ** 2, -1), (mask[:, None] > 0) & (mask[None] > 0))


def transformation(first: Vectors, second: Vectors, mask: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """Returns T of two consecutive layers."""
    channels = min(first.shape[1], second.shape[1])
    first, second = (spatial.average_pool(x[:, :, None, None], (channels, 1))[:, :, 0, 0] for x in (first, second))
    return divide_by_largest(jnp.sum((first - second) ** 2, -1), mask > 0)


def edge_loss(
    student: Sequence[Vectors], teacher: Sequence[Vectors], mask: Float[Array, " batch"]
) -> Float[Array, " batch"]:
    """Compares the edges of each layer, of any widths; the mean over layers."""
    values = [
        relation.row_means((edges(s, mask) - edges(t, mask)) ** 2, mask) for s, t in zip(student, teacher, strict=True)
    ]
    return sum(values[1:], values[0]) / len(values)


def transformation_loss(
    student: Sequence[Vectors], teacher: Sequence[Vectors], mask: Float[Array, " batch"]
) -> Float[Array, " batch"]:
    """Compares the transformations between consecutive layers; 0 for one layer."""
    steps = [[transformation(x, y, mask) for x, y in itertools.pairwise(side)] for side in (student, teacher)]
    values = [(s - t) ** 2 for s, t in zip(*steps, strict=True)]
    return sum(values, jnp.zeros(mask.shape)) / max(len(values), 1)


class IRG(Method):
    """`layers` are in their order; the weights are w_v, w_e and w_t."""

    layers: str = "stage1,stage2,stage3"
    vertex_weight: Scalar = 0.1
    edge_weight: Scalar = 5.0
    transformation_weight: Scalar = 5.0
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self) -> None:
        layer_mapping.check_paired(self.layers)
        for name in ("vertex_weight", "edge_weight", "transformation_weight"):
            check_least(name, getattr(self, name), 0)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        mask = batch["mask"]
        taps = layer_mapping.paired_taps(self.layers, student, teacher)
        student_vectors, teacher_vectors = ([vectors(x, mask) for x in side] for side in zip(*taps, strict=True))
        vertices = distance.mean_squared(precise(student.logits), precise(teacher.logits))
        values = self.vertex_weight * vertices
        values += self.edge_weight * edge_loss(student_vectors, teacher_vectors, mask)
        return values + self.transformation_weight * transformation_loss(student_vectors, teacher_vectors, mask)
