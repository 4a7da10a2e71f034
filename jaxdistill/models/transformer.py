"""What the transformers share: attention, the feed-forward part, the block of both, and stacks of blocks.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762. Norms and the softmax are
computed in float32, whatever the dtype. Each layer fills in these taps, with i from 0 on:

    block{i}: `[batch, length, width]`, what the block gives.
    block{i}/query: `[batch, length, heads, head_width]`, as projected, before the rotation.
    block{i}/key, block{i}/value: the same, of `key_heads` heads.
    block{i}/scores: `[batch, heads, length, length]`, float32: scaled, before the softmax; `NOWHERE` where a query
        (row) may not look at a key (column).
    block{i}/attention: the probabilities, of the same shape, before dropout.

Params of a layer are `block{i}/attention/{query,key,value,out}/kernel`, `block{i}/feed_forward/{gate,up,down}/kernel`
and norms; where layers are scanned they are `blocks/...`, each with a first axis that counts the layers.
`AXES` names their dimensions.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output, Unembedding
from jaxdistill.errors import UserError, check_fraction, check_least, check_positive, unknown
from jaxdistill.models.remat import REMATS

NOWHERE = -1e30
"""The score of a key that is hidden from a query: finite, so that differences of two such scores are 0."""

AXES = (
    ("attention/(query|key|value)/kernel$", ("width", "heads", "head_width")),
    ("attention/(query|key|value)/bias$", ("heads", "head_width")),
    ("attention/out/kernel$", ("heads", "head_width", "width")),
    ("feed_forward/(gate|up)/kernel$", ("width", "hidden")),
    ("feed_forward/(gate|up)/bias$", ("hidden",)),
    ("feed_forward/down/kernel$", ("hidden", "width")),
    ("(norm[12]|attention/out|feed_forward/down)/(scale|bias)$", ("width",)),
    ("/embed/embedding$", ("vocabulary", "width")),
    ("/head/kernel$", ("width", "vocabulary")),
    ("/head/bias$", ("vocabulary",)),
)
"""The logical names of the params' dimensions, from which they are sharded (`train/rules.py`): the models have them as
`axes`. Params of scanned layers have one dimension before these, that of the layers."""

ACTIVATIONS = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "relu": nn.relu,
    "swiglu": nn.silu,
}
"""name -> the function of the hidden units; "swiglu" multiplies it by a second projection (Shazeer, "GLU Variants
Improve Transformer", 2020, https://arxiv.org/abs/2002.05202)."""

# Devlin et al., BERT, and Radford et al., GPT-2; the normal is not truncated here.
initial = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Style:
    """How the blocks of one model are made; the fields are those that models have under the same names.

    Attributes:
        key_heads: of keys and values; each serves `heads / key_heads` queries in a row. 0 for as many as heads.
        head_width: 0 for `width / heads`.
        hidden: units of the feed-forward part; 0 for 4 times the width.
        norm: "layer" or "rms".
        norm_first: whether norms stand before attention and feed-forward part, or after the sums.
        rotary: base of the rotary positions; 0 for none.
        residual: factor of the spread from which the projections into the residual stream start.
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
    rotary: float = 0.0
    residual: float = 1.0
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        for name in ("layers", "width", "heads"):
            check_least(name, getattr(self, name), 1)
        for name in ("key_heads", "head_width", "hidden"):
            check_least(name, getattr(self, name), 0)
        check_fraction("dropout", self.dropout)
        check_positive("epsilon", self.epsilon)
        if not self.head_width and self.width % self.heads:
            raise UserError(
                f"width={self.width} is not a multiple of heads={self.heads}; make it one, or set head_width"
            )
        if self.heads % (self.key_heads or self.heads):
            raise UserError(
                f"heads={self.heads} is not a multiple of key_heads={self.key_heads}; groups are of one size"
            )
        if self.rotary and self.widths[0] % 2:
            raise UserError(
                f"heads are {self.widths[0]} wide, and rotary positions turn pairs: the number must be even"
            )
        for what, known in (("norm", ("layer", "rms")), ("activation", ACTIVATIONS), ("remat", REMATS)):
            if getattr(self, what) not in known:
                raise unknown(what, getattr(self, what), known)

    @classmethod
    def of(cls, model: nn.Module, **others: Any) -> "Style":
        """Returns the style that a model's fields say, and `others` beside them."""
        names = {field.name for field in dataclasses.fields(model)} & {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: getattr(model, name) for name in names} | others)

    @property
    def widths(self) -> tuple[int, int]:
        """The width of a head, and the number of hidden units."""
        return self.head_width or self.width // self.heads, self.hidden or 4 * self.width


def project(features: int | tuple[int, ...], style: Style, *, axis: Any = -1, residual: float = 1.0, name: str):
    """Returns a linear layer over `axis`; `features` are the axes that take its place."""
    return nn.DenseGeneral(
        features,
        axis=axis,
        use_bias=style.bias,
        kernel_init=nn.initializers.normal(0.02 * residual),
        dtype=style.dtype,
        name=name,
    )


def normalize(style: Style, name: str) -> nn.Module:
    """Returns a norm over the last axis: of mean and variance, or of the root mean square alone.

    Ba et al., "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450; Zhang & Sennrich, "Root Mean Square Layer
    Normalization", NeurIPS 2019, https://arxiv.org/abs/1910.07467.
    """
    if style.norm == "rms":
        return nn.RMSNorm(epsilon=style.epsilon, dtype=style.dtype, name=name)
    # The fast variance, E[x^2] - E[x]^2, loses its digits where a mean is large.
    return nn.LayerNorm(epsilon=style.epsilon, dtype=style.dtype, use_fast_variance=False, name=name)


def embed(rows: int, style: Style, name: str) -> nn.Embed:
    return nn.Embed(rows, style.width, embedding_init=initial, dtype=style.dtype, name=name)


def classifier(classes: int) -> nn.Dense:
    """Returns the last layer over classes, named `head`, in float32."""
    return nn.Dense(classes, kernel_init=initial, dtype=jnp.float32, name="head")


def check_length(tokens: jax.Array, most: int) -> None:
    """Raises `UserError` for texts that are longer than there are learned positions."""
    if tokens.shape[1] > most:
        raise UserError(f"texts of {tokens.shape[1]} tokens, and positions for {most}; raise length, or cut the texts")


def rotated(x: jax.Array, positions: jax.Array, base: float) -> jax.Array:
    """Turns the pairs (j, j + head_width / 2) of each head by `position / base^(2 j / head_width)`.

    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, https://arxiv.org/abs/2104.09864,
    equation 34. The paper pairs neighbours, as Meta's code does; halves are paired in the weights that Hugging Face
    has of Llama, and here: the columns of query and key are in another order.

    Args:
        x: `[batch, length, heads, head_width]`.
        positions: int `[batch or 1, length]`.

    Returns:
        The same shape and dtype; the angles are computed in float32.
    """
    half = x.shape[-1] // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions.astype(jnp.float32)[..., None, None] * frequency.reshape(1, 1, 1, -1)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1).astype(x.dtype)


def known(tokens: jax.Array, token_mask: jax.Array | None) -> jax.Array:
    """Returns the tokens with 0 for padding, which may be no token at all.

    A token that counts and is none, at or above the vocabulary, is NaN in the embedding, and ends a run.
    """
    return tokens if token_mask is None else jnp.where(token_mask > 0, tokens, 0)


def places(tokens: jax.Array, token_mask: jax.Array | None) -> jax.Array:
    """Returns each token's position, int `[batch or 1, length]`: padding does not count, on whichever side it is."""
    if token_mask is None:
        return jnp.arange(tokens.shape[1])[None]
    return jnp.maximum(jnp.cumsum(token_mask > 0, -1) - 1, 0)


def visible(length: int, token_mask: jax.Array | None, causal: bool) -> jax.Array:
    """Returns which keys (columns) a query (row) may look at, bool `[batch or 1, 1, length, length]`."""
    seen = jnp.ones((1, 1, length, length), bool)
    if causal:
        seen = jnp.tril(seen)
    return seen if token_mask is None else seen & (token_mask > 0)[:, None, None, :]


class Attention(nn.Module):
    """Attention of several heads; returns what it adds to the residual stream, and its taps."""

    style: Style
    train: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, seen: jax.Array, positions: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        style, (batch, length, _) = self.style, x.shape
        (head_width, _), key_heads = style.widths, style.key_heads or style.heads
        query = project((style.heads, head_width), style, name="query")(x)
        key = project((key_heads, head_width), style, name="key")(x)
        value = project((key_heads, head_width), style, name="value")(x)
        taps = {"query": query, "key": key, "value": value}
        if style.rotary:
            query, key = (rotated(vectors, positions, style.rotary) for vectors in (query, key))
        # Ainslie et al., "GQA", EMNLP 2023, https://arxiv.org/abs/2305.13245: g queries for each key.
        groups = (key_heads, style.heads // key_heads)
        query = query.reshape(batch, length, *groups, head_width)
        scores = jnp.einsum("bikgd,bjkd->bkgij", query, key, preferred_element_type=jnp.float32)
        scores = scores.reshape(batch, style.heads, length, length) / math.sqrt(head_width)
        scores = taps["scores"] = jnp.where(seen, scores, NOWHERE)
        shares = taps["attention"] = nn.softmax(scores).astype(style.dtype)
        shares = nn.Dropout(style.dropout, deterministic=not self.train)(shares)
        mixed = jnp.einsum("bkgij,bjkd->bikgd", shares.reshape(batch, *groups, length, length), value)
        mixed = mixed.reshape(batch, length, style.heads, head_width)
        return project(style.width, style, axis=(-2, -1), residual=style.residual, name="out")(mixed), taps


class FeedForward(nn.Module):
    """Two layers with an activation between them; a gated one has a third."""

    style: Style

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        style = self.style
        up = project(style.widths[1], style, name="up")(x)
        active = ACTIVATIONS[style.activation]
        gated = style.activation == "swiglu"
        inner = active(project(style.widths[1], style, name="gate")(x)) * up if gated else active(up)
        return project(style.width, style, residual=style.residual, name="down")(inner)


class Block(nn.Module):
    """Attention and feed-forward part, each beside a residual stream; returns it, and taps, itself as ""."""

    style: Style
    train: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, seen: jax.Array, positions: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        style, taps = self.style, {}

        def attend(x):
            added, own = Attention(style, self.train, name="attention")(x, seen, positions)
            taps.update(own)
            return added

        for number, part in ((1, attend), (2, FeedForward(style, name="feed_forward"))):
            norm = normalize(style, f"norm{number}")
            added = part(norm(x) if style.norm_first else x)
            x = x + nn.Dropout(style.dropout, deterministic=not self.train)(added)
            x = x if style.norm_first else norm(x)
        return x, taps | {"": x}


def stack(x: jax.Array, taps: dict[str, jax.Array], style: Style, seen: jax.Array, positions: jax.Array, train: bool):
    """Runs the layers, one after the other or as one scanned layer, and fills in their taps.

    Where they are scanned, a tap is a slice of an array of all layers: one that is read keeps all of them in memory.
    Unread ones cost nothing either way.

    Args:
        x: `[batch, length, width]`.
        seen: as `visible` has it.
        positions: int `[batch or 1, length]`.

    Returns:
        `[batch, length, width]`.
    """
    block: Any = Block
    if style.remat:
        block = nn.remat(Block, prevent_cse=not style.scan, policy=REMATS[style.remat])
    if style.scan:
        block = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=style.layers,
        )
        x, said = block(style, train, name="blocks")(x, seen, positions)
        layers = [{name: value[index] for name, value in said.items()} for index in range(style.layers)]
    else:
        layers = []
        for index in range(style.layers):
            x, said = block(style, train, name=f"block{index}")(x, seen, positions)
            layers.append(said)
    for index, said in enumerate(layers):
        taps |= {f"block{index}/{name}".rstrip("/"): value for name, value in said.items()}
    return x


class Head(nn.Module):
    """The linear layer over a vocabulary, which is not applied here unless `dense`: logits are of every token."""

    classes: int
    bias: bool = False
    dense: bool = False

    @nn.compact
    def __call__(self, hidden: jax.Array, taps: dict[str, jax.Array], table: jax.Array | None) -> Output:
        """Says `[batch, length, classes]`; its kernel is that of the embedding, `table` `[classes, width]`, if given.

        Press & Wolf, "Using the Output Embedding to Improve Language Models", EACL 2017,
        https://arxiv.org/abs/1608.05859.
        """
        kernel = self.param("kernel", initial, (hidden.shape[-1], self.classes)) if table is None else table.T
        bias = self.param("bias", nn.initializers.zeros, (self.classes,)) if self.bias else None
        said = Unembedding(hidden, kernel.astype(hidden.dtype), bias)
        return Output(said.dense() if self.dense else said, taps)
