"""Bidirectional text encoders: BERT and its successors."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.models import transformer
from jaxdistill.models.attention import Visibility, describe

POOLERS = {"tanh": nn.tanh, "relu": nn.relu, "gelu": transformer.ACTIVATIONS["gelu"]}


class Encoder(nn.Module):
    """BERT, RoBERTa, DistilBERT and ELECTRA; predicts the class of a text, or every token of it.

    Devlin et al., "BERT", NAACL 2019, https://arxiv.org/abs/1810.04805; Liu et al., "RoBERTa", 2019,
    https://arxiv.org/abs/1907.11692; Clark et al., "ELECTRA", ICLR 2020, https://arxiv.org/abs/2003.10555. The defaults
    are BERT-base (uncased). RoBERTa-base is vocabulary=50_265, length=514, first=2, segments=1, epsilon=1e-5;
    DistilBERT is layers=6, segments=0, pooler="relu"; ELECTRA-small is width=256, heads=4, embed_width=128,
    pooler="gelu". Weights are drawn from a normal distribution of spread 0.02, which is not truncated here. The authors
    of ELECTRA and RoBERTa also drop out the input of the pooler, and ELECTRA's drop out embeddings before they are
    widened, not after it.

    Its inputs are `tokens` int `[batch, length]`; `token_mask` `[batch, length]`, above 0 for tokens and 0 for padding,
    which may be on either side and is not counted by positions; and `segment` int `[batch, length]`, the part of the
    text that a token belongs to, 0 by default. The first token is the class token, [CLS].

    Taps, for l tokens and w = width (details in `transformer.py`):
        embed: `[batch, l, w]`, tokens, positions and segments, after their norm (and widened), before dropout.
        block0 .. block{layers-1}: `[batch, l, w]`, each block's output, after its norm; and of each its query, key,
            value, scores and attention.
        final: `[batch, l, w]`, the last of these.
        pooled: `[batch, w]`, float32: `final` of the first token; if `predicts` is "class", after a linear layer and
            the activation `pooler` (the input of the head, before dropout).

    Attributes:
        classes: number of logits.
        predicts: "class", one prediction per text, or "token", one per token, as masked language models do: after a
            linear layer and a norm, by the embedding's kernel; `classes` is then the size of the vocabulary.
        vocabulary: number of tokens.
        embed_width: width of the embeddings, which a linear layer widens to `width`; 0 for `width` without that layer.
        hidden: width of the feed-forward layer; 0 for 4 times `width`.
        length: rows of the table of positions.
        first: the row of the first position (RoBERTa: 2).
        segments: number of parts of a text; 0 for no segment embedding.
        activation: "gelu", "gelu_tanh", "relu", "swiglu" or "geglu_tanh"; that of the layer before the head of tokens
            is the same.
        pooler: activation of the layer before the head of a text's class: "tanh", "relu" as in DistilBERT, or "gelu" as
            in ELECTRA.
        dense: whether logits of tokens are computed; if not they are an `Unembedding`, which losses evaluate in chunks
            of tokens.
        dropout: rate, of embeddings, attention, both parts of a block and the classifier's input (BERT: 0.1).
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only its
            matrix products.
        scan: whether one layer is scanned over stacked params, which compiles faster.
        attention: "xla", "chunked", "splash", "cudnn", or "auto" by length and device; see `attention.py`.
        dtype: of the computation; params, norms, softmax and the classifier are float32.

    Raises:
        UserError: on construction, for inconsistent sizes; and for more tokens than positions.
    """

    classes: int
    predicts: str = "class"
    vocabulary: int = 30_522
    layers: int = 12
    width: int = 768
    heads: int = 12
    embed_width: int = 0
    hidden: int = 0
    length: int = 512
    first: int = 0
    segments: int = 2
    epsilon: float = 1e-12
    activation: str = "gelu"
    pooler: str = "tanh"
    dense: bool = False
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    attention: str = "auto"
    dtype: Any = jnp.float32

    inputs = ("tokens", "token_mask", "segment")
    axes = transformer.AXES
    forward_mode = False
    bidirectional = True

    def __post_init__(self) -> None:
        if self.predicts not in ("class", "token"):
            raise unknown("predicts", self.predicts, ("class", "token"), "a kind of prediction")
        if self.predicts == "token" and self.classes != self.vocabulary:
            raise UserError(
                f"classes must equal vocabulary={self.vocabulary} if predicts='token', got {self.classes}; set"
                " both to the same number"
            )
        if self.pooler not in POOLERS:
            raise unknown("pooler", self.pooler, POOLERS)
        check_least("vocabulary", self.vocabulary, 1)
        check_least("first", self.first, 0)
        check_least("length", self.length, self.first + 1)
        check_least("segments", self.segments, 0)
        check_least("embed_width", self.embed_width, 0)
        _style(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        token_mask: Shaped[Array, "batch length"] | None = None,
        segment: Int[Array, "batch length"] | None = None,
    ) -> Output:
        style, taps = _style(self), {}
        positions = transformer.token_positions(tokens, token_mask)
        transformer.check_length(tokens, self.length - self.first)
        embedding = transformer.embed(self.vocabulary, style, "embed", self.embed_width)
        x = embedding(transformer.mask_tokens(tokens, token_mask))
        x = x + transformer.embed(self.length, style, "positions", self.embed_width)(positions + self.first)
        if self.segments:
            segment = jnp.zeros_like(tokens) if segment is None else segment
            x = x + transformer.embed(self.segments, style, "segments", self.embed_width)(segment)
        x = transformer.normalize(style, "embed_norm")(x)
        x = taps["embed"] = transformer.project(self.width, style, name="embed_wide")(x) if self.embed_width else x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        visibility = Visibility(token_mask=token_mask)
        x = transformer.run_blocks(x, taps, style, visibility=visibility, positions=positions, train=train)
        taps["final"], first = x, _first_state(x, token_mask)
        if self.predicts == "token":
            taps["pooled"] = first.astype(jnp.float32)
            x = transformer.project(self.embed_width or self.width, style, name="head_dense")(x)
            x = transformer.ACTIVATIONS[self.activation](x)
            x = transformer.normalize(style, "head_norm")(x)
            head = transformer.Head(self.classes, bias=True, dense=self.dense, name="head")
            return head(x, taps, embedding.embedding)
        pooled = transformer.project(self.width, style, name="pooler")(first)
        pooled = POOLERS[self.pooler](pooled).astype(jnp.float32)
        taps["pooled"] = pooled
        pooled = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        return Output(transformer.classifier(self.classes)(pooled), taps)

    def describe(self, output: Output) -> str:
        """Describes the implementation of attention, for `--plan`."""
        return describe(self, output.taps)


def _first_state(
    final: Float[Array, "batch length width"], token_mask: Shaped[Array, "batch length"] | None
) -> Float[Array, "batch width"]:
    """Returns the state of the first token of each text."""
    if token_mask is None:
        return final[:, 0]
    place = jnp.argmax(token_mask > 0, axis=1)
    return jnp.take_along_axis(final, place[:, None, None], axis=1)[:, 0]


def _style(model: Encoder) -> transformer.Style:
    return transformer.Style.of(model, norm_first=False)
