"""Focal and global distillation: what the teacher attends to in the foreground, in the background, and between them.

Yang, Li, Jiang, Gong, Yuan, Zhao, Yuan, "Focal and Global Knowledge Distillation for Detectors", CVPR 2022,
https://arxiv.org/abs/2111.11837

    loss = foreground sum_{i in fg} a_i D_i + background sum_{i in bg} a_i D_i + attention L_at + relation L_re

added over the pairs of layers, one value per image, with, over places i and channels c,

    D_i = A^S_i sum_c A^C_c (t_ic - s_ic)^2,         A^S = HW softmax_i(mean_c |t_ic| / T)
    L_at = |A^S - A^S_student| + |A^C - A^C_student|,    A^C = C softmax_c(mean_i |t_ic| / T),    summed
    L_re = sum (R(s) - R(t))^2,    R(x) = x + W2 relu(norm(W1 sum_i softmax_i(w x_i) x_i))

R, a global context block, is one for each side, both learned with the student. The weights are those of the paper's
detectors of two stages; for anchor-based ones of one stage it has 1e-3, 5e-4, 1e-3 and 5e-6 (the code's defaults).

The paper is about detectors, and a_i is 1 over the area of the smallest box around i, or over that of the background.
Here the labels are of pixels: class 0 is the background, and the pixels of another class in an image stand for a box,
so that every class weighs alike, however large. Pixels without a label are neither; they count in L_at and L_re alone.
Labels are brought to the size of the map by the nearest, the student's map to the size of the teacher's, and a 1 x 1
convolution gives it the teacher's channels where they differ, as in the paper.

Elsewhere: none known for pixels; the authors' code is for boxes, and otherwise the same.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import UserError, check_least
from jaxdistill.losses import regions, spatial
from jaxdistill.modules import adapters, layer_mapping


def attention(x: jax.Array, temperature: float) -> tuple[jax.Array, jax.Array]:
    """Where `[batch, height, width, channels]` is large: of places `[batch, h, w]`, of channels `[batch, channels]`."""
    size = jnp.abs(x)
    places, channels = jnp.mean(size, -1), jnp.mean(size, (1, 2))
    flat = places.reshape(len(x), -1)
    spread = flat.shape[1] * jax.nn.softmax(flat / temperature)
    return spread.reshape(places.shape), channels.shape[1] * jax.nn.softmax(channels / temperature)


def focal(student: jax.Array, teacher: jax.Array, weight: jax.Array, temperature: float) -> jax.Array:
    """Returns `[batch]`: squared differences, weighed by `weight` `[batch, h, w]` and the teacher's attention."""
    places, channels = attention(teacher, temperature)
    return jnp.einsum("bhwc,bhw,bc->b", (teacher - student) ** 2, weight * places, channels, precision="highest")


def attended(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Returns `[batch]`, the sum of absolute differences of the two attentions."""
    pairs = zip(attention(student, temperature), attention(teacher, temperature), strict=True)
    return sum(jnp.sum(jnp.abs(own - other), tuple(range(1, own.ndim))) for own, other in pairs)


def areas(label: jax.Array, classes: int, foreground: float, background: float) -> jax.Array:
    """One over the number of pixels of a pixel's class in its image, times its ground's weight; 0 without a label."""
    inside = regions.members(label, classes)
    count = jnp.einsum("bhwk,bk->bhw", inside, jnp.sum(inside, (1, 2)), precision="highest")
    return jnp.where(label > 0, foreground, background) * (label >= 0) / jnp.maximum(count, 1)


class Context(nn.Module):
    """A global context block: adds to every place one vector, made of the places' average by learned attention."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        scores = nn.Dense(1, name="scores")(x).reshape(len(x), -1)
        places = x.reshape(len(x), -1, channels)
        context = jnp.einsum("bi,bic->bc", jax.nn.softmax(scores), places, precision="highest")
        hidden = nn.LayerNorm(epsilon=1e-5, name="norm")(nn.Dense(max(1, channels // 2), name="down")(context))
        added = nn.Dense(channels, kernel_init=nn.initializers.zeros, name="up")(nn.relu(hidden))
        return x + added[:, None, None]


class FGD(Method):
    """`foreground`, `background`, `attention` and `relation` weigh the parts; `temperature` is the attention's."""

    layers: str = "stage1,stage2,stage3"
    temperature: float = 0.5
    foreground: float = 5e-5
    background: float = 2.5e-5
    attention: float = 5e-5
    relation: float = 5e-7
    same_classes = False
    needs_labels = True
    domain = "dense"

    def check(self):
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature={self.temperature} makes no sense; it is greater than 0 and finite")
        for name in ("foreground", "background", "attention", "relation"):
            check_least(name, getattr(self, name), 0)

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            own, other = adapters.to_grid(own), adapters.to_grid(other)
            own = adapters.fit(own, other.shape[1:3])
            own = own if own.shape == other.shape else adapters.match(own, other, name)
            label = spatial.resize(batch["label"], other.shape[1:3], "nearest")
            weight = areas(label, student.logits.shape[-1], self.foreground, self.background)
            context = Context(name=f"{name}_student")(own) - Context(name=f"{name}_teacher")(other)
            value = focal(own, other, weight.astype(other.dtype), self.temperature)
            value += self.attention * attended(own, other, self.temperature)
            return value + self.relation * jnp.sum(context**2, (1, 2, 3))

        return layer_mapping.over(self, student, teacher, loss)
