"""Semantic calibration for cross-layer distillation (SemCKD).

Chen, Mei, Zhang, Wang, Wang, Feng, Chen, "Cross-Layer Distillation with Semantic Calibration", AAAI 2021,
https://arxiv.org/abs/2012.03236

    loss = sum_i sum_j a_ij mean over elements of (r_ij(S_i) - T_j)^2,    a_ij = softmax_j (q_i . k_j)

one value per example, with attention weights of its own: every layer of the student learns from all layers of the
teacher. q_i and k_j, of length 1, are computed by two-layer perceptrons from the layers' averages over places. r_ij is
a stack of convolutions, 1 x 1, 3 x 3 and 1 x 1, with batch normalisation and ReLU between, whose hidden width is twice
that of the teacher's layer; the larger map is averaged to the size of the smaller. All of these learn with the student.
`layers` names the student's layers and the teacher's, which may differ in number: each one on the left of the pairs is
compared with each one on the right. The paper names no size of the embedding.

Elsewhere: the authors' code computes q and k of an example from its row of the batch's similarity matrix, so that they
depend on the other examples, on their order and on the size of the batch, which its perceptrons fix; it divides the
loss by the number of the student's layers, which goes with its weight of 400.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping


def semckd(
    distances: Float[Array, "batch student_layers teacher_layers"],
    query: Float[Array, "batch student_layers width"],
    key: Float[Array, "batch teacher_layers width"],
) -> Float[Array, " batch"]:
    """Sums the distances of all pairs of layers, weighted by the attention of the student's layers."""
    attention = jax.nn.softmax(jnp.einsum("bid,bjd->bij", query, key, precision="highest"))
    return jnp.sum(attention * distances, (1, 2))


class SemCKD(Method):
    """`layers` names the layers of both sides, compared all with all; `width` is that of queries and keys."""

    layers: str = "stage1,stage2,stage3"
    width: int = 128
    same_classes = False
    needs_whole_batch = True

    def check(self) -> None:
        layer_mapping.check_paired(self.layers)
        check_least("width", self.width, 1)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        sides = layer_mapping.side_taps(self.layers, student, teacher)
        student_maps, teacher_maps = ([adapters.to_grid(x) for x in side] for side in sides)
        query = jnp.stack([self._embed(x, f"query{index}") for index, x in enumerate(student_maps)], 1)
        key = jnp.stack([self._embed(x, f"key{index}") for index, x in enumerate(teacher_maps)], 1)
        rows = [
            [self._distance(s, t, batch["mask"], f"regressor{i}_{j}") for j, t in enumerate(teacher_maps)]
            for i, s in enumerate(student_maps)
        ]
        return semckd(jnp.stack([jnp.stack(row, -1) for row in rows], 1), query, key)

    def _embed(self, x: Float[Array, "batch _ _ _"], name: str) -> Float[Array, "batch {self.width}"]:
        hidden = nn.relu(nn.Dense(2 * self.width, name=f"{name}_hidden")(jnp.mean(x, (1, 2))))
        return distance.normalize(nn.Dense(self.width, name=f"{name}_out")(hidden))

    def _distance(
        self,
        student: Float[Array, "batch _ _ _"],
        teacher: Float[Array, "batch _ _ _"],
        mask: Float[Array, " batch"],
        name: str,
    ) -> Float[Array, " batch"]:
        x, target = spatial.to_smaller(student, teacher)
        channels = target.shape[-1]
        for index, size in enumerate((1, 3)):
            x = adapters.conv(2 * channels, size, name=f"{name}_conv{index}", bias=False)(x)
            x = nn.relu(adapters.norm(x, mask, name=f"{name}_norm{index}"))
        x = adapters.conv(channels, 1, name=f"{name}_conv2", bias=False)(x)
        return distance.mean_squared(x, target)
