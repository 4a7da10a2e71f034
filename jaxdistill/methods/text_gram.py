"""Gram matrices of hidden states: how features go together from layer to layer, or tokens within one.

Yang et al., "TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing", ACL 2020
demonstrations, https://arxiv.org/abs/2002.12620, its `fsp` (after Yim et al., CVPR 2017) and `nst` / `mmd` (after Huang
and Wang, https://arxiv.org/abs/1707.01219) brought from images to text.

    loss = sum_i 1 / d^2 || 1/l H^s_i^T H^s_(i+1) - 1/l H^t_i^T H^t_(i+1) ||_2^2            gram = "hidden"
    loss = sum_i 1 / l^2 || 1/d_s H^s_i H^s_i^T - 1/d_t H^t_i H^t_i^T ||_2^2                gram = "token"

one value per example of l tokens; layers i and i + 1 are neighbours among those that `layers` pairs, or one layer
twice where there is one. Features must be as many in student and teacher, so that a learned linear map is there where
the widths differ; token Grams need none.

Elsewhere: TextBrewer leaves the layers to the user, and weighs examples in the token Gram by their squared lengths,
where each counts the same here.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method
from jaxdistill.errors import unknown
from jaxdistill.losses import attention, token
from jaxdistill.modules import adapters, layer_mapping

GRAMS = ("hidden", "token")
Pair = tuple[jax.Array, jax.Array]


def hidden_gram(student: Pair, teacher: Pair, there: jax.Array) -> jax.Array:
    """Compares `H_1^T H_2 / l` of two layers.

    Args:
        student: two layers' states, `[batch, length, width]` each.
        teacher: the same, of the same width.
        there: `[batch, length]`, above 0 for tokens, of which an example has l.

    Returns:
        `[batch]`.
    """
    mask = (there > 0)[:, :, None]
    count = jnp.maximum(jnp.sum(mask, (1, 2)), 1)[:, None, None]

    def gram(first, second):
        return jnp.einsum("bld,ble->bde", jnp.where(mask, first, 0.0), second, precision="highest") / count

    return jnp.mean((gram(*student) - gram(*teacher)) ** 2, (1, 2))


def token_gram(student: Pair, teacher: Pair, there: jax.Array) -> jax.Array:
    """Compares `H_1 H_2^T / width` of two layers.

    Args:
        student: two layers' states, `[batch, length, width]` each.
        teacher: the same, of any width.
        there: `[batch, length]`, above 0 for tokens.

    Returns:
        `[batch]`, means over the pairs of tokens that are there.
    """
    mask = there > 0
    pairs = mask[:, :, None] & mask[:, None, :]

    def gram(first, second):
        return jnp.einsum("bid,bjd->bij", first, second, precision="highest") / first.shape[-1]

    square = (gram(*student) - gram(*teacher)) ** 2
    return jnp.sum(jnp.where(pairs, square, 0.0), (1, 2)) / jnp.maximum(jnp.sum(pairs, (1, 2)), 1)


class TextGram(Method):
    """`gram` is "hidden", of neighbouring layers, or "token", of each layer with itself."""

    gram: str = "hidden"
    layers: str = "uniform:block*"
    same_classes = False
    zero_at_teacher = True
    domain = "encoder"

    def check(self):
        attention.check_layers(self.layers)
        if self.gram not in GRAMS:
            raise unknown("gram", self.gram, GRAMS)

    @nn.compact
    def __call__(self, student, teacher, batch):
        there, taps = token.there(batch), layer_mapping.taps(self.layers, student, teacher)
        if self.gram == "token":
            return sum(token_gram((own, own), (other, other), there) for own, other in taps)
        own, theirs = zip(*taps, strict=True)
        own = [
            x if x.shape == y.shape else adapters.match(x, y, f"layer{i}")
            for i, (x, y) in enumerate(zip(own, theirs, strict=True))
        ]
        neighbours = [(i, i + 1) for i in range(len(own) - 1)] or [(0, 0)]
        return sum(hidden_gram((own[i], own[j]), (theirs[i], theirs[j]), there) for i, j in neighbours)
