"""Gram matrices of hidden states (TextBrewer's FSP and NST).

Yang et al., "TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing", ACL 2020
demonstrations, https://arxiv.org/abs/2002.12620, its `fsp` (after Yim et al., CVPR 2017) and `nst` / `mmd` (after Huang
and Wang, https://arxiv.org/abs/1707.01219) brought from images to text.

    loss = sum_i 1 / d^2 || 1/l H^s_i^T H^s_(i+1) - 1/l H^t_i^T H^t_(i+1) ||_2^2            gram = "hidden"
    loss = sum_i 1 / l^2 || 1/d_s H^s_i H^s_i^T - 1/d_t H^t_i H^t_i^T ||_2^2                gram = "token"

one value per example of l tokens: the correlations of features between layers, or of tokens within a layer, match.
Layers i and i + 1 are neighbours among those that `layers` pairs, or a single layer twice. Hidden Grams need equal
widths: if they differ, a learned linear map gives the student the teacher's. Token Grams need none.

Elsewhere: TextBrewer leaves the layers to the user, and weights examples in the token Gram by their squared lengths;
here all examples have equal weight.
"""

import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import unknown
from jaxdistill.losses import attention, token
from jaxdistill.modules import adapters, layer_mapping

GRAMS = ("hidden", "token")
Pair = Sequence[Float[Array, "batch length _"]]
"""States of two layers."""


def hidden_gram(student: Pair, teacher: Pair, is_token: Shaped[Array, "batch length"]) -> Float[Array, " batch"]:
    """Compares `H_1^T H_2 / l` of two layers of equal widths on both sides."""
    mask = (is_token > 0)[:, :, None]
    count = jnp.maximum(jnp.sum(mask, (1, 2)), 1)[:, None, None]

    def gram(first: Array, second: Array) -> Array:
        return jnp.einsum("bld,ble->bde", jnp.where(mask, first, 0.0), second, precision="highest") / count

    return jnp.mean((gram(*student) - gram(*teacher)) ** 2, (1, 2))


def token_gram(student: Pair, teacher: Pair, is_token: Shaped[Array, "batch length"]) -> Float[Array, " batch"]:
    """Compares `H_1 H_2^T / width` of two layers of any widths; the mean over pairs of tokens."""
    mask = is_token > 0
    pairs = mask[:, :, None] & mask[:, None, :]

    def gram(first: Array, second: Array) -> Array:
        return jnp.einsum("bid,bjd->bij", first, second, precision="highest") / first.shape[-1]

    square = (gram(*student) - gram(*teacher)) ** 2
    return jnp.sum(jnp.where(pairs, square, 0.0), (1, 2)) / jnp.maximum(jnp.sum(pairs, (1, 2)), 1)


class TextGram(Method):
    """`gram` is "hidden", of neighbouring layers, or "token", of each layer with itself."""

    gram: str = "hidden"
    layers: str = "uniform:block*"
    same_classes = False
    zero_at_teacher = True

    def check(self) -> None:
        attention.check_layers(self.layers)
        if self.gram not in GRAMS:
            raise unknown("gram", self.gram, GRAMS, "a kind of Gram matrix")

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        is_token, taps = token.token_positions(batch), layer_mapping.paired_taps(self.layers, student, teacher)
        if self.gram == "token":
            return sum(token_gram((s, s), (t, t), is_token) for s, t in taps)
        states = [
            (s if s.shape == t.shape else adapters.match(s, t, f"layer{index}"), t) for index, (s, t) in enumerate(taps)
        ]
        neighbours = itertools.pairwise(states) if len(states) > 1 else [(states[0], states[0])]
        sides = [zip(*layers, strict=True) for layers in neighbours]
        return sum(hidden_gram(student_pair, teacher_pair, is_token) for student_pair, teacher_pair in sides)
