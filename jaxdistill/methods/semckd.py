"""Semantic calibration: every layer of the student learns from all of the teacher's, as attention weighs them.

Chen, Mei, Zhang, Wang, Wang, Feng, Chen, "Cross-Layer Distillation with Semantic Calibration", AAAI 2021,
https://arxiv.org/abs/2012.03236

    loss = sum_i sum_j a_ij mean over elements of (r_ij(S_i) - T_j)^2,    a_ij = softmax_j (q_i . k_j)

one value per example, whose own weights they are. q_i and k_j, of length 1, are made by two-layer perceptrons of the
layers' averages over places. r_ij is a stack of convolutions, 1 x 1, 3 x 3 and 1 x 1, with batch normalisation and
ReLU between, twice as wide within as the teacher's layer; the larger map is averaged to the size of the smaller. All
of these learn with the student. `layers` names the student's layers and the teacher's, which need not be as many: what
is on the left of the pairs meets all that is on the right. The paper names no size of the embedding.

Elsewhere: the authors' code makes q and k of an example from its row of the batch's matrix of similarities, so that
they depend on the other examples, on their order and on the size of the batch, which its perceptrons fix; it divides
the loss by the number of the student's layers, which goes with its weight of 400.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping


def semckd(distances: jax.Array, query: jax.Array, key: jax.Array) -> jax.Array:
    """Returns `[batch]`: each of the student's layers' distances, weighed by its attention, and added.

    Args:
        distances: `[batch, student's layers, teacher's layers]`.
        query: `[batch, student's layers, width]`.
        key: `[batch, teacher's layers, width]`.
    """
    attention = jax.nn.softmax(jnp.einsum("bid,bjd->bij", query, key, precision="highest"))
    return jnp.sum(attention * distances, (1, 2))


class SemCKD(Method):
    """`width` is that of queries and keys."""

    layers: str = "stage1,stage2,stage3"
    width: int = 128
    same_classes = False
    needs_whole_batch = True

    def check(self):
        layer_mapping.check_paired(self.layers)
        check_least("width", self.width, 1)

    @nn.compact
    def __call__(self, student, teacher, batch):
        sides = layer_mapping.sides(self.layers, student, teacher)
        own, other = ([adapters.to_grid(x) for x in side] for side in sides)
        query = jnp.stack([self._embed(x, f"query{index}") for index, x in enumerate(own)], 1)
        key = jnp.stack([self._embed(x, f"key{index}") for index, x in enumerate(other)], 1)
        rows = [
            jnp.stack([self._distance(s, t, batch["mask"], f"regressor{i}_{j}") for j, t in enumerate(other)], -1)
            for i, s in enumerate(own)
        ]
        return semckd(jnp.stack(rows, 1), query, key)

    def _embed(self, x, name):
        hidden = nn.relu(nn.Dense(2 * self.width, name=f"{name}_hidden")(jnp.mean(x, (1, 2))))
        return distance.normalize(nn.Dense(self.width, name=f"{name}_out")(hidden))

    def _distance(self, own, other, mask, name):
        own, other = spatial.to_smaller(own, other)
        channels = other.shape[-1]
        for index, size in enumerate((1, 3)):
            own = adapters.conv(2 * channels, size, name=f"{name}_conv{index}", bias=False)(own)
            own = nn.relu(adapters.norm(own, mask, name=f"{name}_norm{index}"))
        own = adapters.conv(channels, 1, name=f"{name}_conv2", bias=False)(own)
        return distance.mean_squared(own, other)
