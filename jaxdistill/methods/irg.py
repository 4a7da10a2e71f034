"""Instance relationship graph: examples are vertices, their distances are edges, and layers transform the graph.

Liu, Cao, Li, Yuan, Hu, Li, Duan, "Knowledge Distillation via Instance Relationship Graph", CVPR 2019,
https://openaccess.thecvf.com/content_CVPR_2019/html/Liu_Knowledge_Distillation_via_Instance_Relationship_Graph_CVPR_2019_paper.html

    loss = w_v mean (z_s - z_t)^2 + w_e mean (A_s - A_t)^2 + w_t mean (T_s - T_t)^2

    A_ij = |f_i - f_j|^2 / max,    T_i = |f_i - f'_i|^2 / max

with z the logits, f an example's features averaged over places, f' those of the next layer, the maxima over the batch.
The edges are averaged over the layers and the transformations over consecutive ones. As in the authors' code the maxima
pass no gradient and the features are averaged over places. Its layers of a transformation have equal channels; where
they have not, neighbouring channels of the wider one are averaged. An example's value is its part of the means, times
B. The authors weigh sums over the batch; the weights here are KD-Zoo's, of means.

Elsewhere: KD-Zoo compares whole maps, pooled to the smaller size, and lets gradients through the maxima.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, precise
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, relation, spatial
from jaxdistill.modules import layer_mapping


def vectors(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Averages `[batch, ..., channels]` over places: `[batch, channels]`, 0 in the rows that do not count."""
    return relation.rows(jnp.mean(x, tuple(range(1, x.ndim - 1))), mask)


def over_largest(x: jax.Array, counts: jax.Array) -> jax.Array:
    """Divides by the largest of those that count, as if it were constant; 0 where that is 0."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.where(counts, x, 0.0)))
    return jnp.where(largest > 0, x / jnp.where(largest > 0, largest, 1.0), 0.0)


def edges(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns A, `[batch, batch]`, for `[batch, channels]`."""
    return over_largest(jnp.sum(relation.differences(x) ** 2, -1), (mask[:, None] > 0) & (mask[None] > 0))


def transformation(first: jax.Array, second: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns T, `[batch]`, for `[batch, channels]` of two layers."""
    channels = min(first.shape[1], second.shape[1])
    first, second = (spatial.average_pool(x[:, :, None, None], (channels, 1))[:, :, 0, 0] for x in (first, second))
    return over_largest(jnp.sum((first - second) ** 2, -1), mask > 0)


def edge_loss(student: Sequence[jax.Array], teacher: Sequence[jax.Array], mask: jax.Array) -> jax.Array:
    """Returns `[batch]` for layers `[batch, channels]`, the student's as wide as they like."""
    found = [
        relation.share((edges(s, mask) - edges(t, mask)) ** 2, mask) for s, t in zip(student, teacher, strict=True)
    ]
    return sum(found[1:], found[0]) / len(found)


def transformation_loss(student: Sequence[jax.Array], teacher: Sequence[jax.Array], mask: jax.Array) -> jax.Array:
    """Returns `[batch]` for layers `[batch, channels]` in their order; 0 for one layer."""
    steps = [[transformation(x, y, mask) for x, y in itertools.pairwise(side)] for side in (student, teacher)]
    found = [(own - other) ** 2 for own, other in zip(*steps, strict=True)]
    return sum(found, jnp.zeros(mask.shape)) / max(len(found), 1)


class IRG(Method):
    """`layers` in their order; the weights are w_v, w_e and w_t."""

    layers: str = "stage1,stage2,stage3"
    vertex_weight: float = 0.1
    edge_weight: float = 5.0
    transformation_weight: float = 5.0
    needs_whole_batch = True
    zero_at_teacher = True

    def check(self):
        layer_mapping.check_paired(self.layers)
        for name in ("vertex_weight", "edge_weight", "transformation_weight"):
            check_least(name, getattr(self, name), 0)

    def __call__(self, student, teacher, batch):
        mask = batch["mask"]
        taps = layer_mapping.taps(self.layers, student, teacher)
        own, other = ([vectors(x, mask) for x in side] for side in zip(*taps, strict=True))
        vertices = distance.mean_squared(precise(student.logits), precise(teacher.logits))
        found = self.vertex_weight * vertices + self.edge_weight * edge_loss(own, other, mask)
        return found + self.transformation_weight * transformation_loss(own, other, mask)
