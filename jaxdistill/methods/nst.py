"""Neuron selectivity transfer: the student's channels light up at the places where the teacher's do.

Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017,
https://arxiv.org/abs/1707.01219

    loss = mean k(s, s') + mean k(t, t') - 2 mean k(s, t),    k(x, y) = (x^T y)^2

where s and t run over the channels of one example, each its map over the places divided by its norm: the squared
maximum mean discrepancy between two sets of channels, which may differ in number. Added over the pairs of layers; where
the maps are of two sizes, the larger is averaged to the size of the smaller. The paper's linear kernel is attention
transfer, and its Gaussian is not here: the polynomial is the one it reports for all datasets. The layers are those of
the CRD benchmark.

With A the matrix of places by channels, mean k(s, t) is the inner product of A_s A_s^T / C_s and A_t A_t^T / C_t, so
that the loss is the squared distance between these two, never negative and exactly 0 at the teacher; where there are
more places than channels the three means are cheaper.

Elsewhere: RepDistiller, mdistiller and KD-Zoo agree.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping


def nst(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Returns `[batch]` for `[batch, height, width, channels]`; the teacher's may be of another size and width."""
    student, teacher = (_channels(x) for x in spatial.to_smaller(student, teacher))
    places, own, other = student.shape[1], student.shape[2], teacher.shape[2]
    if places**2 <= own**2 + other**2 + own * other:
        return over_places(student, teacher)
    return over_channels(student, teacher)


def _channels(x: jax.Array) -> jax.Array:
    """`[batch, places, channels]`, each channel's map over the places of norm 1, or 0."""
    return distance.normalize(x.reshape(x.shape[0], -1, x.shape[3]), axis=1)


def over_places(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """`[batch]` from `[batch, places, channels]`, by similarities of places: memory for places squared."""
    own, other = (jnp.einsum("bpc,bqc->bpq", x, x, precision="highest") / x.shape[2] for x in (student, teacher))
    return jnp.sum((own - other) ** 2, (1, 2))


def over_channels(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """The same by similarities of channels: memory for channels squared."""

    def kernel(left, right):
        return jnp.mean(jnp.einsum("bpc,bpd->bcd", left, right, precision="highest") ** 2, (1, 2))

    return kernel(student, student) + kernel(teacher, teacher) - 2 * kernel(student, teacher)


class NST(Method):
    """`layers` names the maps."""

    layers: str = "stage1,stage2,stage3"
    same_classes = False
    zero_at_teacher = True

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            return nst(adapters.to_grid(own), adapters.to_grid(other))

        return layer_mapping.over(self, student, teacher, loss)
