"""Language models that read from left to right."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.errors import check_least, check_positive, unknown
from jaxdistill.models import transformer


class Decoder(nn.Module):
    """GPT-2, Llama, and what is between them; it says what the next token of every token is.

    Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019,
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf; Touvron et
    al., "LLaMA", 2023, https://arxiv.org/abs/2302.13971, and "Llama 2", https://arxiv.org/abs/2307.09288. The defaults
    are GPT-2's smallest. Llama's are positions="rotary", norm="rms", activation="swiglu", bias=False, tied=False, and
    for 2-7B classes=32_000, layers=32, width=4096, heads=32, hidden=11_008; for 3-8B classes=128_256, key_heads=8,
    hidden=14_336, rotary_base=500_000.0. Weights are drawn as GPT-2's, those into the residual stream smaller by
    sqrt(2 layers).

    It is called with `tokens` int `[batch, length]`, and `token_mask` `[batch, length]`, above 0 for tokens and 0 for
    padding, which may be on either side. What it says at padding means nothing.

    Taps, for l tokens and w = width (more in `transformer.py`):
        embed: `[batch, l, w]`, tokens and learned positions, before dropout.
        block0 .. block{layers-1}: `[batch, l, w]`, the residual stream after each block; and of each its query, key,
            value, scores and attention.
        final: `[batch, l, w]`, after the last norm: what the head reads.
        pooled: `[batch, w]`, float32, `final` at the last token of each text.

    Attributes:
        classes: tokens of the vocabulary.
        key_heads: of keys and values; 0 for as many as heads.
        head_width: 0 for width / heads.
        hidden: units of the feed-forward part; 0 for 4 times the width.
        positions: "learned", of which there are `length`, or "rotary", of which there is no end.
        length: rows of the table of learned positions.
        norm: "layer" or "rms".
        activation: "gelu_tanh", "gelu", "relu" or "swiglu".
        bias: of all linear layers but the head.
        tied: whether the head's kernel is that of the embedding.
        dense: whether the logits are computed; they are an `Unembedding` otherwise, which losses over a vocabulary
            read some tokens at a time, and nothing of `[batch * l, classes]` is ever there.
        dropout: rate, of embeddings, attention and both parts of a block (GPT-2: 0.1, Llama: 0).
        remat: "", "block" or "products": what a block keeps for the backward pass is all, its input, or its products.
        scan: whether the layers are one layer that is scanned, which compiles faster; its params have another shape.
        dtype: of the computation; params, norms and softmax are float32. The logits are products of states and kernel
            in it, added up in float32.

    Raises:
        UserError: on construction, for numbers that do not divide each other; and for more tokens than positions.
    """

    classes: int
    layers: int = 12
    width: int = 768
    heads: int = 12
    key_heads: int = 0
    head_width: int = 0
    hidden: int = 0
    positions: str = "learned"
    length: int = 1024
    rotary_base: float = 10_000.0
    norm: str = "layer"
    epsilon: float = 1e-5
    activation: str = "gelu_tanh"
    bias: bool = True
    tied: bool = True
    dense: bool = False
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    dtype: Any = jnp.float32

    inputs = ("tokens", "token_mask")
    axes = transformer.AXES

    def __post_init__(self):
        if self.positions not in ("learned", "rotary"):
            raise unknown("positions", self.positions, ("learned", "rotary"))
        check_least("length", self.length, 1)
        check_positive("rotary_base", self.rotary_base)
        _style(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False, token_mask: jax.Array | None = None) -> Output:
        style, taps = _style(self), {}
        places = transformer.places(tokens, token_mask)
        words = transformer.embed(self.classes, style, "embed")
        x = words(transformer.known(tokens, token_mask))
        if self.positions == "learned":
            transformer.check_length(tokens, self.length)
            x = x + transformer.embed(self.length, style, "positions")(places)
        taps["embed"] = x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        seen = transformer.visible(tokens.shape[1], token_mask, causal=True)
        x = transformer.stack(x, taps, style, seen, places, train)
        final = taps["final"] = transformer.normalize(style, "final_norm")(x)
        taps["pooled"] = _last(final, token_mask).astype(jnp.float32)
        head = transformer.Head(self.classes, dense=self.dense, name="head")
        return head(final, taps, words.embedding if self.tied else None)


def _style(model: Decoder) -> transformer.Style:
    rotary = model.rotary_base if model.positions == "rotary" else 0.0
    return transformer.Style.of(model, rotary=rotary, residual=(2 * max(model.layers, 1)) ** -0.5)


def _last(final: jax.Array, token_mask: jax.Array | None) -> jax.Array:
    """Returns the state of the last token of each text, `[batch, width]`."""
    if token_mask is None:
        return final[:, -1]
    place = final.shape[1] - 1 - jnp.argmax(token_mask[:, ::-1] > 0, axis=1)
    return jnp.take_along_axis(final, place[:, None, None], axis=1)[:, 0]
