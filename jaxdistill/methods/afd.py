"""Attention-based feature distillation (AFD).

Ji, Heo, Park, "Show, Attend and Distill: Knowledge Distillation via Attention-based Feature Matching", AAAI 2021,
https://arxiv.org/abs/2102.02973

    loss = sum_t sum_s a_ts mean over places of (Q_s / ||Q_s|| - Q_t / ||Q_t||)^2,    Q = mean over channels of F^2

    a_ts = softmax over s of (q_t . B_t k_s + p_t . p_s) / sqrt(d)

Every pair of layers is compared, weighted by learned attention. q_t = norm(linear(mean over places of F_t)) is a
teacher layer's query, k_s = ReLU(norm(linear(...))) a student layer's key, B_t k_s a part of norm(linear(k_s)), p a
learned vector for each layer, and norm batch normalisation: each example has its own attention, learned with the rest.
Student maps are averaged to the teacher layer's size, or repeated to it if they are smaller. The paper writes the norm
of the difference; this is the authors' code, which takes the mean of squares.

Elsewhere: only copies of the authors' code were found.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import check_least
from jaxdistill.losses import distance, spatial
from jaxdistill.modules import adapters, layer_mapping


def activity(x: Float[Array, "batch height width channels"], size: tuple[int, int]) -> Float[Array, "batch places"]:
    """Returns Q at `size`, divided by its norm; a map of zeros stays 0."""
    places = spatial.average_pool(jnp.mean(x**2, -1, keepdims=True), size)
    return distance.normalize(places.reshape(places.shape[0], -1))


def afd(
    student: Sequence[Float[Array, "batch _ _ _"]],
    teacher: Sequence[Float[Array, "batch _ _ _"]],
    attention: Float[Array, "batch teacher_layers student_layers"],
) -> Float[Array, " batch"]:
    """Sums the differences of all pairs of layers, weighted by `attention`.

    Args:
        student: maps `[batch, height, width, channels]` of any sizes and widths.
        teacher: the same.
        attention: sums to 1 over the student's layers.
    """
    total = jnp.zeros(())
    for index, target in enumerate(teacher):
        size = target.shape[1:3]
        difference = [distance.mean_squared(activity(layer, size), activity(target, size)) for layer in student]
        total = total + jnp.sum(attention[:, index] * jnp.stack(difference, 1), 1)
    return total


class AFD(Method):
    """`layers` names the layers of both sides, compared all with all; `width` is d, that of queries and keys."""

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
        return afd(student_maps, teacher_maps, self.attention(student_maps, teacher_maps, batch["mask"]))

    def attention(
        self,
        student: Sequence[Float[Array, "batch _ _ _"]],
        teacher: Sequence[Float[Array, "batch _ _ _"]],
        mask: Float[Array, " batch"],
    ) -> Float[Array, "batch teacher_layers student_layers"]:
        """Returns the attention of each example, which sums to 1 over the student's layers."""

        def linear(x: Array, width: int, name: str) -> Array:
            return adapters.norm(nn.Dense(width, name=name)(x), mask, name=f"{name}_norm")

        means = [[jnp.mean(x, (1, 2)) for x in side] for side in (student, teacher)]
        keys = jnp.stack([nn.relu(linear(x, self.width, f"key{i}")) for i, x in enumerate(means[0])], 1)
        queries = jnp.stack([linear(x, self.width, f"query{i}") for i, x in enumerate(means[1])], 1)
        keys = linear(keys, self.width * len(teacher), "bilinear")
        keys = keys.reshape(*keys.shape[:2], len(teacher), self.width)
        start = nn.initializers.xavier_normal()
        positions = [
            self.param(name, start, (len(side), self.width))
            for name, side in (("student", student), ("teacher", teacher))
        ]
        scores = jnp.einsum("bstd,btd->bts", keys, queries, precision="highest")
        scores = scores + jnp.matmul(positions[1], positions[0].T, precision="highest")[None]
        return jax.nn.softmax(scores / self.width**0.5)
