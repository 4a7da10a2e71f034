"""Neuron selectivity transfer (NST).

Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017,
https://arxiv.org/abs/1707.01219

    loss = mean k(s, s') + mean k(t, t') - 2 mean k(s, t),    k(x, y) = (x^T y)^2

where s and t run over the channels of one example, each a map over the places divided by its norm: the squared maximum
mean discrepancy between two sets of channels, which may differ in number. Added over the pairs of layers; if the maps'
sizes differ, the larger is averaged to the size of the smaller. The paper's linear kernel is attention transfer, and
its Gaussian is not implemented: it reports the polynomial for all datasets. The layers are those of the CRD benchmark.

With A the matrix of places by channels, mean k(s, t) is the inner product of A_s A_s^T / C_s and A_t A_t^T / C_t, so
that the loss is the squared distance between these two, never negative and exactly 0 at the teacher; with more places
than channels the three means are cheaper.

Elsewhere: RepDistiller, mdistiller and KD-Zoo agree.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping

Channels = Float[Array, "batch places _"]


def nst(student: Float[Array, "batch _ _ _"], teacher: Float[Array, "batch _ _ _"]) -> Float[Array, " batch"]:
    """Compares two maps of any sizes and widths, by the cheaper of two equal formulas."""
    student, teacher = (_normalize_channels(x) for x in spatial.to_smaller(student, teacher))
    (_, places, student_channels), teacher_channels = student.shape, teacher.shape[2]
    if places**2 <= student_channels**2 + teacher_channels**2 + student_channels * teacher_channels:
        return over_places(student, teacher)
    return over_channels(student, teacher)


def _normalize_channels(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch places channels"]:
    """Flattens the places and divides each channel by its norm; a channel of zeros stays 0."""
    return distance.normalize(x.reshape(x.shape[0], -1, x.shape[3]), axis=1)


def over_places(student: Channels, teacher: Channels) -> Float[Array, " batch"]:
    """Computes the loss by similarities of places, in memory for places squared."""
    s, t = (jnp.einsum("bpc,bqc->bpq", x, x, precision="highest") / x.shape[2] for x in (student, teacher))
    return jnp.sum((s - t) ** 2, (1, 2))


def over_channels(student: Channels, teacher: Channels) -> Float[Array, " batch"]:
    """Computes the loss by similarities of channels, in memory for channels squared."""

    def kernel(left: Array, right: Array) -> Array:
        return jnp.mean(jnp.einsum("bpc,bpd->bcd", left, right, precision="highest") ** 2, (1, 2))

    return kernel(student, student) + kernel(teacher, teacher) - 2 * kernel(student, teacher)


class NST(Method):
    """`layers` names the compared maps."""

    layers: str = "stage1,stage2,stage3"
    same_classes = False
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            return nst(adapters.to_grid(student_map), adapters.to_grid(teacher_map))

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)
