"""Focal and global distillation (FGD).

Yang, Li, Jiang, Gong, Yuan, Zhao, Yuan, "Focal and Global Knowledge Distillation for Detectors", CVPR 2022,
https://arxiv.org/abs/2111.11837

    loss = foreground sum_{i in fg} a_i D_i + background sum_{i in bg} a_i D_i + attention L_at + relation L_re

added over the pairs of layers, one value per image, with, over places i and channels c,

    D_i = A^S_i sum_c A^C_c (t_ic - s_ic)^2,         A^S = HW softmax_i(mean_c |t_ic| / T)
    L_at = |A^S - A^S_student| + |A^C - A^C_student|,    A^C = C softmax_c(mean_i |t_ic| / T),    summed
    L_re = sum (R(s) - R(t))^2,    R(x) = x + W2 relu(norm(W1 sum_i softmax_i(w x_i) x_i))

D_i weights the squared differences by the teacher's attention, in the foreground and in the background; L_re compares
relations between places. Each side has its own global context block R, learned with the student. The weights are those
of the paper's two-stage detectors; for anchor-based one-stage detectors it has 1e-3, 5e-4, 1e-3 and 5e-6 (the code's
defaults).

With boxes a_i is 1 over the area of the smallest box around i, or over that of the background, in places of the map. A
box covers all places that it touches, and one more below and right if it ends between two places, as in the authors'
code; padding and crowds are background. For anchor-free detectors the paper has 1.6e-3, 8e-4, 8e-4, 8e-6 and T = 0.8,
on the levels of the pyramid (`layers="P3,P4,P5"`).

With labels of pixels class 0 is the background, and all pixels of another class in an image replace a box, so that
every class has the same weight, whatever its size. Void pixels and pixels without a label are neither; they count in
L_at and L_re alone. Labels are resized to the map by nearest neighbour. The student's map is resized to the teacher's,
and a 1 x 1 convolution gives it the teacher's channels if they differ, as in the paper.

Elsewhere: no implementation for pixels was found; with boxes the authors' code agrees.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdistill.core import Batch, Method, Output, Scalar, precise
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import boxes, regions
from jaxdistill.modules import adapters, layer_mapping

Map = Float[Array, "batch height width channels"]


def attention(x: Map, temperature: Scalar) -> tuple[Float[Array, "batch height width"], Float[Array, "batch channels"]]:
    """Returns the spatial attention A^S and the channel attention A^C of a map."""
    size = jnp.abs(x)
    places, channels = jnp.mean(size, -1), jnp.mean(size, (1, 2))
    flat = places.reshape(len(x), -1)
    spread = flat.shape[1] * jax.nn.softmax(flat / temperature)
    return spread.reshape(places.shape), channels.shape[1] * jax.nn.softmax(channels / temperature)


def focal(
    student: Map, teacher: Map, weight: Float[Array, "batch height width"], temperature: Scalar
) -> Float[Array, " batch"]:
    """Sums the squared differences, weighted by `weight` and by the teacher's attention."""
    places, channels = attention(teacher, temperature)
    return jnp.einsum("bhwc,bhw,bc->b", (teacher - student) ** 2, weight * places, channels, precision="highest")


def attention_difference(student: Map, teacher: Map, temperature: Scalar) -> Float[Array, " batch"]:
    """Returns L_at, the sum of absolute differences of the two attentions."""
    pairs = zip(attention(student, temperature), attention(teacher, temperature), strict=True)
    return sum(jnp.sum(jnp.abs(s - t), tuple(range(1, s.ndim))) for s, t in pairs)


def place_weights(
    label: Int[Array, "batch height width"], classes: int, foreground: Scalar, background: Scalar
) -> Float[Array, "batch height width"]:
    """Returns a_i, times the weight of the foreground or the background; 0 without a label."""
    inside = regions.one_hot(label, classes)
    count = jnp.einsum("bhwk,bk->bhw", inside, jnp.sum(inside, (1, 2)), precision="highest")
    return jnp.where(label > 0, foreground, background) * (label >= 0) / jnp.maximum(count, 1)


def box_weights(
    share: Float[Array, "batch height width"], foreground: Scalar, background: Scalar
) -> Float[Array, "batch height width"]:
    """Returns a_i from 1 over the area of the smallest box, times the weight of the foreground or the background."""
    outside = share == 0
    of_background = 1 / jnp.maximum(jnp.sum(outside, (1, 2), keepdims=True), 1)
    return jnp.where(outside, background * of_background, foreground * share)


class Context(nn.Module):
    """The global context block R: adds one vector to every place, computed from an attention-weighted average."""

    @nn.compact
    def __call__(self, x: Map) -> Map:
        channels = x.shape[-1]
        scores = nn.Dense(1, name="scores")(x).reshape(len(x), -1)
        places = x.reshape(len(x), -1, channels)
        context = jnp.einsum("bi,bic->bc", jax.nn.softmax(scores), places, precision="highest")
        norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="norm")
        hidden = norm(nn.Dense(max(1, channels // 2), name="down")(context))
        added = nn.Dense(channels, kernel_init=nn.initializers.zeros, name="up")(nn.relu(hidden))
        return x + added[:, None, None]


class FGD(Method):
    """`foreground`, `background`, `attention` and `relation` are weights; `temperature` is that of the attention."""

    layers: str = "stage1,stage2,stage3"
    temperature: Scalar = 0.5
    foreground: Scalar = 5e-5
    background: Scalar = 2.5e-5
    attention: Scalar = 5e-5
    relation: Scalar = 5e-7
    same_classes = False
    needs_labels = True

    def check(self) -> None:
        check_positive("temperature", self.temperature)
        for name in ("foreground", "background", "attention", "relation"):
            check_least(name, getattr(self, name), 0)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            student_map, teacher_map = adapters.to_grid(student_map), adapters.to_grid(teacher_map)
            student_map = adapters.resize(student_map, teacher_map.shape[1:3])
            if student_map.shape != teacher_map.shape:
                student_map = adapters.match(student_map, teacher_map, name)
            weight = self._weights(batch, teacher_map.shape[1:3], student.logits.shape[-1])
            context = Context(name=f"{name}_student")(student_map) - Context(name=f"{name}_teacher")(teacher_map)
            value = focal(student_map, teacher_map, weight.astype(teacher_map.dtype), self.temperature)
            value += self.attention * attention_difference(student_map, teacher_map, self.temperature)
            return value + self.relation * jnp.sum(context**2, (1, 2, 3))

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)

    def _weights(self, batch: Batch, size: tuple[int, int], classes: int) -> Float[Array, "batch height width"]:
        if "boxes" in batch:
            share = boxes.inverse_areas(precise(batch["boxes"]), batch["label"] >= 0, size)
            return box_weights(share, self.foreground, self.background)
        return place_weights(regions.pixel_labels(batch, size), classes, self.foreground, self.background)
