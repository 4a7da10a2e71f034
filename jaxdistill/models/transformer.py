"""Parts of transformers: attention, the feed-forward layer, their block, and stacks of blocks.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762. Norms and the softmax are
computed in float32, whatever the dtype. Each layer adds these taps, with i from 0 on:

    block{i}: `[batch, length, width]`, the block's output.
    block{i}/query: `[batch, length, heads, head_width]`, as projected and, if it is, normalised, before the rotation.
    block{i}/key, block{i}/value: the same, of `key_heads` heads.
    block{i}/scores: `[batch, heads, length, length]`, float32: scaled, before the softmax; `MASKED_SCORE`
        for a query (row) that does not attend to a key (column).
    block{i}/attention: the probabilities, of the same shape, before dropout.

The last two are computed if they are read, also by an implementation of attention that needs no matrix of scores
(`attention.py`): reading them takes their memory.

Params of a layer are `block{i}/attention/{query,key,value,out}/kernel`, `block{i}/feed_forward/{gate,up,down}/kernel`
and norms; those of scanned layers are `blocks/...`, each with a first axis over the layers. `AXES` names their
dimensions.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxdistill import products
from jaxdistill.core import Output, Unembedding
from jaxdistill.errors import UserError, check_fraction, check_least, check_positive, unknown
from jaxdistill.models import attention, attention_blocks, attention_kernels, layout
from jaxdistill.models.attention import Visibility
from jaxdistill.models.gelu import gelu
from jaxdistill.models.remat import REMATS
from jaxdistill.models.rotary import check_scaling, rotate

Taps = dict[str, Array]
States = Float[Array, "batch length width"]

AXES = (
    ("attention/(query|key|value)/kernel$", ("width", "heads", "head_width")),
    ("attention/(query|key|value)/bias$", ("heads", "head_width")),
    ("attention/(query|key)_norm/scale$", ("head_width",)),
    ("attention/out/kernel$", ("heads", "head_width", "width")),
    ("feed_forward/(gate|up)/kernel$", ("width", "hidden")),
    ("feed_forward/(gate|up)/bias$", ("hidden",)),
    ("feed_forward/down/kernel$", ("hidden", "width")),
    ("((norm[12]|attention/out|feed_forward/down)/(scale|bias)|layer_scale[12])$", ("width",)),
    ("/embed/embedding$", ("vocabulary", "width")),
    ("/head/kernel$", ("width", "vocabulary")),
    ("/head/bias$", ("vocabulary",)),
)
"""Logical names of the params' dimensions, the models' `axes`, by which they are sharded (`train/partitioning.py`).
Params of scanned layers have one dimension before these, that of the layers."""

CACHE = "cache"
"""The collection of keys and values, as rotated, for the tokens to come; `generation/sampler.py` writes with it."""

ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "relu": nn.relu,
    "swiglu": nn.silu,
    "geglu_tanh": functools.partial(nn.gelu, approximate=True),
}
"""Activations of the hidden units by name; those of `GATED` are multiplied by a second projection (Shazeer, "GLU
Variants Improve Transformer", 2020, https://arxiv.org/abs/2002.05202)."""

GATED = ("swiglu", "geglu_tanh")
NORMS = ("layer", "rms", "rms_offset")

# Devlin et al., BERT, and Radford et al., GPT-2; the normal is not truncated here.
initial = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Style:
    """Settings of a model's blocks; models have fields of the same names.

    Attributes:
        key_heads: number of heads of keys and values, each for `heads / key_heads` consecutive queries; 0 for `heads`.
        head_width: 0 for `width / heads`.
        hidden: width of the feed-forward layer; 0 for 4 times `width`.
        norm: one of `NORMS`.
        norm_first: whether norms precede attention and feed-forward layer, or follow the sums.
        bias: whether all linear layers have a bias; `qkv_bias` adds those of query, key and value alone.
        qk_norm: whether the query and the key of each head pass a root-mean-square norm before the rotation.
        layer_scale: initial value of the learned factors of both parts of a block; 0 for no factors.
        rotary: base of the rotary positions; 0 for none.
        rotary_scaling: Llama 3.1's `(factor, low, high, length)`, see `rotary.py`; () for none.
        residual: factor of the initial spread of projections into the residual stream.
        attention: one of `attention.IMPLEMENTATIONS`.
    """

    layers: int
    width: int
    heads: int
    key_heads: int = 0
    head_width: int = 0
    hidden: int = 0
    norm: str = "layer"
    norm_first: bool = True
    epsilon: float = 1e-5
    activation: str = "gelu"
    bias: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    layer_scale: float = 0.0
    rotary: float = 0.0
    rotary_scaling: tuple[float, ...] = ()
    residual: float = 1.0
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    attention: str = "auto"
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads"):
            check_least(name, getattr(self, name), 1)
        for name in ("key_heads", "head_width", "hidden"):
            check_least(name, getattr(self, name), 0)
        check_least("layer_scale", self.layer_scale, 0)
        check_fraction("dropout", self.dropout)
        check_positive("epsilon", self.epsilon)
        if not self.head_width and self.width % self.heads:
            raise UserError(
                f"width must be a multiple of heads={self.heads}, got {self.width}; change one, or set head_width"
            )
        if self.heads % (self.key_heads or self.heads):
            raise UserError(
                f"heads must be a multiple of key_heads={self.key_heads}, got {self.heads}; groups have one size"
            )
        if self.rotary and self.widths[0] % 2:
            raise UserError(f"head_width must be even, got {self.widths[0]}; rotary positions rotate pairs")
        check_scaling(self.rotary_scaling)
        for name, options in (("norm", NORMS), ("activation", ACTIVATIONS), ("remat", REMATS)):
            if getattr(self, name) not in options:
                raise unknown(name, getattr(self, name), options, f"an existing {name}")
        attention.check_implementation(self.attention)

    @classmethod
    def of(cls, model: nn.Module, **others: Any) -> "Style":
        """Returns the style of a model's fields, updated by `others`."""
        names = {field.name for field in dataclasses.fields(model)} & {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: getattr(model, name) for name in names} | others)

    @property
    def widths(self) -> tuple[int, int]:
        """The width of a head, and that of the feed-forward layer."""
        return self.head_width or self.width // self.heads, self.hidden or 4 * self.width


def project(
    features: int | tuple[int, ...],
    style: Style,
    *,
    axis: int | tuple[int, ...] = -1,
    residual: float = 1.0,
    bias: bool = False,
    dot_general: Callable[..., Array] = products.dot_general,
    name: str,
) -> nn.DenseGeneral:
    """Returns a linear layer that replaces `axis` by `features`; it has a bias if the style or `bias` demands one."""
    initial = nn.initializers.normal(0.02 * residual)
    settings = {"use_bias": style.bias or bias, "kernel_init": initial, "dtype": style.dtype, "name": name}
    return nn.DenseGeneral(features, axis=axis, dot_general=dot_general, **settings)


class OffsetRMSNorm(nn.Module):
    """Root-mean-square norm whose factor is `1 + scale`: Gemma's, https://arxiv.org/abs/2403.08295."""

    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "*rest width"]) -> Float[Array, "*rest width"]:
        scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), -1, keepdims=True) + self.epsilon)
        return (wide * (1 + scale.reshape((1,) * (x.ndim - 1) + (-1,)))).astype(self.dtype)


def normalize(style: Style, name: str) -> nn.Module:
    """Returns a layer norm or a root-mean-square norm over the last axis.

    Ba et al., "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450; Zhang & Sennrich, "Root Mean Square Layer
    Normalization", NeurIPS 2019, https://arxiv.org/abs/1910.07467.
    """
    if style.norm == "rms":
        return nn.RMSNorm(epsilon=style.epsilon, dtype=style.dtype, name=name)
    if style.norm == "rms_offset":
        return OffsetRMSNorm(style.epsilon, style.dtype, name=name)
    # E[x^2] - E[x]^2 reads the row once and loses digits of float32 if its mean is large, but none of bfloat16's unless
    # that is a hundred times the deviation.
    fast = style.dtype == jnp.bfloat16
    return nn.LayerNorm(epsilon=style.epsilon, dtype=style.dtype, use_fast_variance=fast, name=name)


def embed(rows: int, style: Style, name: str, width: int = 0) -> nn.Embed:
    """Returns an embedding table of `rows`; its width is the style's if `width` is 0."""
    return nn.Embed(rows, width or style.width, embedding_init=initial, dtype=style.dtype, name=name)


def classifier(classes: int, name: str = "head") -> nn.Dense:
    """Returns the last layer over classes, in float32."""
    return nn.Dense(classes, kernel_init=initial, dtype=jnp.float32, name=name)


def check_length(tokens: Int[Array, "batch length"], most: int) -> None:
    """Raises `UserError` for texts longer than `most` learned positions."""
    if tokens.shape[1] > most:
        raise UserError(
            f"texts must have at most {most} tokens, got {tokens.shape[1]}; raise length, or cut the texts with"
            f" data.length={most} where the length is that of weights"
        )


def mask_tokens(
    tokens: Int[Array, "batch length"], token_mask: Shaped[Array, "batch length"] | None
) -> Int[Array, "batch length"]:
    """Returns the tokens with 0 for padding, which may hold any number.

    A token outside the vocabulary is NaN in the embedding, and ends a run.
    """
    return tokens if token_mask is None else jnp.where(token_mask > 0, tokens, 0)


def token_presence(
    tokens: Int[Array, "batch length"], token_mask: Shaped[Array, "batch length"] | None
) -> Bool[Array, "batch length 1"]:
    """Returns whether each token is one, and no padding; all are without a mask."""
    return (jnp.ones(tokens.shape, bool) if token_mask is None else token_mask > 0)[..., None]


def token_positions(
    tokens: Shaped[Array, "batch length"],
    token_mask: Shaped[Array, "batch length"] | None,
    document: Int[Array, "batch length"] | None = None,
) -> Int[Array, "_ length"]:
    """Returns each token's position in its document, without counting padding; 1 row without masks and documents."""
    positions = jnp.arange(tokens.shape[1])[None]
    if token_mask is not None:
        positions = jnp.maximum(jnp.cumsum(token_mask > 0, axis=-1) - 1, 0)
    if document is None:
        return positions
    begins = jnp.concatenate([jnp.ones_like(document[:, :1], bool), document[:, 1:] != document[:, :-1]], axis=1)
    return positions - jax.lax.cummax(jnp.where(begins, positions, 0), axis=1)


def stores_keys(module: nn.Module) -> bool:
    """Whether a module is applied with stored keys and values (`CACHE`), or is to store them."""
    return module.is_mutable_collection(CACHE) and not module.is_initializing()


class Attention(nn.Module):
    """Multi-head attention; returns its addition to the residual stream, and its taps."""

    style: Style
    train: bool = False

    @nn.compact
    def __call__(self, x: States, visibility: Visibility, positions: Int[Array, "_ length"]) -> tuple[States, Taps]:
        style = self.style
        head_width, declared = style.widths[0], style.key_heads or style.heads
        query = project((style.heads, head_width), style, bias=style.qkv_bias, name="query")(x)
        key = project((declared, head_width), style, bias=style.qkv_bias, name="key")(x)
        value = project((declared, head_width), style, bias=style.qkv_bias, name="value")(x)
        if style.qk_norm:
            query, key = normalize(style, "query_norm")(query), normalize(style, "key_norm")(key)
        taps = {"query": query, "key": key, "value": value}
        if style.rotary:
            query, key = (rotate(vectors, positions, style.rotary, style.rotary_scaling) for vectors in (query, key))
        out = project(style.width, style, axis=(-2, -1), residual=style.residual, name="out")
        stored = self._store(key, value, visibility.column) if stores_keys(self) else None
        if stored and visibility.column is not None:
            return out(attention.attend_from(query, *stored, visibility.column_mask())), taps
        taps["scores"] = scores = attention.scores_of(query, key, visibility)
        taps["attention"] = weights = nn.softmax(scores).astype(style.dtype)
        drops = self.train and style.dropout > 0
        implementation = attention.choose(
            style.attention, attention.Setting(x.shape[1], head_width, style.dtype, drops=drops)
        )
        if implementation == "xla" and jnp.finfo(style.dtype).bits >= 32:
            weights = nn.Dropout(style.dropout, deterministic=not self.train)(weights)
            mixed = attention.mix(weights, value)
        else:
            more = {"dropout": attention_blocks.Dropout(style.dropout, self.make_rng("dropout"))} if drops else {}
            mixed = attention_kernels.FORMS[implementation](query, key, value, visibility, **more)
        return out(mixed), taps

    def _store(self, key: attention.Keys, value: attention.Keys, column: Int[Array, ""] | None) -> tuple[Array, Array]:
        """Returns stored keys and values with these; with a `column` as `attention.attend_from` takes them."""
        stored = []
        for name, new in (("keys", jnp.swapaxes(key, 1, 2)), ("values", jnp.swapaxes(value, 1, 2))):
            variable = self.variable(CACHE, name, lambda new=new: new)
            if column is not None:
                variable.value = attention.put_column(variable.value, new, column)
            stored.append(variable.value)
        return stored[0], stored[1]


class FeedForward(nn.Module):
    """Feed-forward layer: two projections with an activation between them, and a third for a gate."""

    style: Style

    @nn.compact
    def __call__(self, x: States) -> States:
        style = self.style
        up = project(style.widths[1], style, name="up")(x)
        active = ACTIVATIONS[style.activation]
        if style.scan:  # its parts are recomputed: a scan stores each of them for every layer, where a loop fuses them
            active = jax.checkpoint(active, prevent_cse=False)
        gated = style.activation in GATED
        inner = active(project(style.widths[1], style, name="gate")(x)) * up if gated else active(up)
        return project(style.width, style, residual=style.residual, name="down")(inner)


class Block(nn.Module):
    """Attention and feed-forward layer with residual connections; returns its output, and taps, the output as ""."""

    style: Style
    train: bool = False

    @nn.compact
    def __call__(self, x: States, visibility: Visibility, positions: Int[Array, "_ length"]) -> tuple[States, Taps]:
        style, taps = self.style, {}

        def attend(x: States) -> States:
            added, attention_taps = Attention(style, self.train, name="attention")(x, visibility, positions)
            taps.update(attention_taps)
            return added

        for number, part in ((1, attend), (2, FeedForward(style, name="feed_forward"))):
            norm = normalize(style, f"norm{number}")
            added = part(norm(x) if style.norm_first else x)
            if style.layer_scale:
                initial_factor = nn.initializers.constant(style.layer_scale)
                factor = self.param(f"layer_scale{number}", initial_factor, (style.width,))
                added = added * factor.reshape(1, 1, -1).astype(style.dtype)
            x = x + nn.Dropout(style.dropout, deterministic=not self.train)(added)
            x = layout.keep_order(x if style.norm_first else norm(x))
        return x, taps | {"": x}


def run_blocks(
    x: States, taps: Taps, style: Style, *, visibility: Visibility, positions: Int[Array, "_ length"], train: bool
) -> States:
    """Runs the layers, one after the other or as one scanned layer, and adds their taps.

    A tap of scanned layers is a slice of an array of all layers: using one keeps all of them in memory. Unused taps
    cost nothing either way.
    """
    block: Any = Block
    if style.remat:
        block = nn.remat(Block, prevent_cse=not style.scan, policy=REMATS[style.remat])
    if style.scan:
        block = nn.scan(
            block,
            variable_axes={"params": 0, CACHE: 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=style.layers,
        )
        x, stacked = block(style, train, name="blocks")(x, visibility, positions)
        layers = [{name: value[index] for name, value in stacked.items()} for index in range(style.layers)]
    else:
        layers = []
        for index in range(style.layers):
            x, block_taps = block(style, train, name=f"block{index}")(x, visibility, positions)
            layers.append(block_taps)
    for index, block_taps in enumerate(layers):
        taps |= {f"block{index}/{name}".rstrip("/"): value for name, value in block_taps.items()}
    return x


class Head(nn.Module):
    """Linear layer over a vocabulary; without `dense` its logits are an `Unembedding`."""

    classes: int
    bias: bool = False
    dense: bool = False

    @nn.compact
    def __call__(self, hidden: States, taps: Taps, table: Float[Array, "{self.classes} width"] | None) -> Output:
        """Returns logits of every token; `table`, if given, is the embedding, whose transpose is the kernel.

        Press & Wolf, "Using the Output Embedding to Improve Language Models", EACL 2017,
        https://arxiv.org/abs/1608.05859.
        """
        kernel = self.param("kernel", initial, (hidden.shape[-1], self.classes)) if table is None else table.T
        bias = self.param("bias", nn.initializers.zeros, (self.classes,)) if self.bias else None
        logits = Unembedding(hidden, kernel.astype(hidden.dtype), bias)
        return Output(logits.dense() if self.dense else logits, taps)
