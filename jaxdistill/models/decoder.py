"""Causal language models."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxdistill.core import Output
from jaxdistill.errors import check_least, check_positive, unknown
from jaxdistill.models import transformer
from jaxdistill.models.attention import Visibility, describe


class Decoder(nn.Module):
    """GPT-2, Llama, Mistral, Qwen and Gemma; predicts the next token at every position.

    Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019,
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf; Touvron et
    al., "LLaMA", 2023, https://arxiv.org/abs/2302.13971, and "Llama 2", https://arxiv.org/abs/2307.09288. The defaults
    are GPT-2's smallest. Llama's are positions="rotary", norm="rms", activation="swiglu", bias=False, tied=False, and
    for 2-7B classes=32_000, layers=32, width=4096, heads=32, hidden=11_008; for 3-8B classes=128_256, key_heads=8,
    hidden=14_336, rotary_base=500_000.0, with rotary_scaling=(8.0, 1.0, 4.0, 8192) since 3.1. The others change
    Llama's: Jiang et al., "Mistral 7B", 2023, https://arxiv.org/abs/2310.06825, by window=4096; Yang et al., "Qwen2",
    2024, https://arxiv.org/abs/2407.10671, by qkv_bias; "Qwen3", 2025, https://arxiv.org/abs/2505.09388, by qk_norm and
    head_width; Gemma Team, "Gemma", 2024, https://arxiv.org/abs/2403.08295, by norm="rms_offset", head_width, scaled,
    tied and activation="geglu_tanh". Weights are drawn as GPT-2's, those into the residual stream smaller by
    sqrt(2 layers).

    Its inputs are `tokens` int `[batch, length]`, `token_mask` `[batch, length]`, above 0 for tokens and 0 for padding,
    which may be on either side, and `document` int `[batch, length]`, if a row has several: a token attends to those of
    its document, whose positions begin at 0. Outputs at padding are undefined. Applied with a mutable collection
    `cache` it stores keys and values there; with `cache/column` it takes the one token `[batch, 1]` at that column, and
    the `token_mask` of all columns.

    Taps, for l tokens and w = width (details in `transformer.py`):
        embed: `[batch, l, w]`, tokens (scaled if `scaled`) and learned positions, before dropout.
        block0 .. block{layers-1}: `[batch, l, w]`, the residual stream after each block; and of each its query, key,
            value, scores and attention.
        final: `[batch, l, w]`, after the last norm: the input of the head.
        pooled: `[batch, w]`, float32, `final` at the last token of each text.

    Attributes:
        classes: size of the vocabulary.
        key_heads: number of heads of keys and values; 0 for `heads`.
        head_width: 0 for width / heads.
        hidden: width of the feed-forward layer; 0 for 4 times `width`.
        positions: "learned", at most `length` of them, or "rotary", without limit.
        length: rows of the table of learned positions.
        rotary_base: base of the rotary positions' wavelengths.
        rotary_scaling: `(factor, low, high, length)` of Llama 3.1; see `rotary.py`.
        window: number of tokens that a token attends to, its own included; 0 for all before it.
        scaled: whether the tokens' embeddings are multiplied by sqrt(width).
        norm: "layer", "rms" or "rms_offset", whose factor is 1 + scale.
        qk_norm: whether the query and the key of each head pass a root-mean-square norm.
        activation: "gelu_tanh", "gelu", "relu", or a gated one, "swiglu" or "geglu_tanh".
        bias: whether linear layers except the head have a bias.
        qkv_bias: whether query, key and value have a bias, whatever `bias` is.
        tied: whether the head's kernel is that of the embedding.
        dense: whether the logits are computed; if not they are an `Unembedding`, which losses evaluate in chunks of
            tokens, so that no array of `[batch * l, classes]` exists.
        dropout: rate, of embeddings, attention and both parts of a block (GPT-2: 0.1, Llama: 0).
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only its
            matrix products.
        scan: whether one layer is scanned over stacked params, which compiles faster.
        attention: "xla", "chunked", "splash", "cudnn", or "auto" by length and device; see `attention.py`.
        dtype: of the computation; params, norms and softmax are float32. The logits are products of states and kernel
            in it, accumulated in float32.

    Raises:
        UserError: on construction, for sizes that do not divide each other; and for more tokens than positions.
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
    rotary_scaling: tuple[float, ...] = ()
    window: int = 0
    scaled: bool = False
    norm: str = "layer"
    epsilon: float = 1e-5
    qk_norm: bool = False
    activation: str = "gelu_tanh"
    bias: bool = True
    qkv_bias: bool = False
    tied: bool = True
    dense: bool = False
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    attention: str = "auto"
    dtype: Any = jnp.float32

    inputs = ("tokens", "token_mask", "document")
    stores_keys = True
    axes = transformer.AXES
    forward_mode = False

    def __post_init__(self) -> None:
        if self.positions not in ("learned", "rotary"):
            raise unknown("positions", self.positions, ("learned", "rotary"), "a kind of positions")
        check_least("length", self.length, 1)
        check_positive("rotary_base", self.rotary_base)
        check_least("window", self.window, 0)
        _style(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        token_mask: Shaped[Array, "batch length"] | None = None,
        document: Int[Array, "batch length"] | None = None,
    ) -> Output:
        style, taps = _style(self), {}
        columns, column = tokens if token_mask is None else token_mask, self._column()
        positions = transformer.token_positions(columns, token_mask, document)
        if column is not None:
            positions = jax.lax.dynamic_slice_in_dim(positions, column, 1, axis=1)
        visibility = Visibility(causal=True, window=self.window, token_mask=token_mask, segment=document, column=column)
        token_mask = token_mask if column is None else None
        embedding = transformer.embed(self.classes, style, "embed")
        x = embedding(transformer.mask_tokens(tokens, token_mask))
        x = x * jnp.asarray(self.width**0.5, x.dtype) if self.scaled else x
        if self.positions == "learned":
            transformer.check_length(columns, self.length)
            x = x + transformer.embed(self.length, style, "positions")(positions)
        taps["embed"] = x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = transformer.run_blocks(x, taps, style, visibility=visibility, positions=positions, train=train)
        final = taps["final"] = transformer.normalize(style, "final_norm")(x)
        taps["pooled"] = _last_state(final, token_mask).astype(jnp.float32)
        head = transformer.Head(self.classes, dense=self.dense, name="head")
        return head(final, taps, embedding.embedding if self.tied else None)

    def describe(self, output: Output) -> str:
        """Describes the implementation of attention, for `--plan`."""
        return describe(self, output.taps)

    def _column(self) -> Int[Array, ""] | None:
        """Returns the column of the only token of each row, if the cache names it."""
        stores = transformer.stores_keys(self) and self.has_variable(transformer.CACHE, "column")
        return self.get_variable(transformer.CACHE, "column") if stores else None


def _style(model: Decoder) -> transformer.Style:
    rotary = model.rotary_base if model.positions == "rotary" else 0.0
    return transformer.Style.of(model, rotary=rotary, residual=(2 * max(model.layers, 1)) ** -0.5)


def _last_state(
    final: Float[Array, "batch length width"], token_mask: Shaped[Array, "batch length"] | None
) -> Float[Array, "batch width"]:
    """Returns the state of the last token of each text."""
    if token_mask is None:
        return final[:, -1]
    place = final.shape[1] - 1 - jnp.argmax(token_mask[:, ::-1] > 0, axis=1)
    return jnp.take_along_axis(final, place[:, None, None], axis=1)[:, 0]
