"""Networks that read a text whole: BERT and its kin."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.models import transformer


class Encoder(nn.Module):
    """BERT, RoBERTa and DistilBERT; it says the class of a text, or of each of its tokens which token it is.

    Devlin et al., "BERT", NAACL 2019, https://arxiv.org/abs/1810.04805; Liu et al., "RoBERTa", 2019,
    https://arxiv.org/abs/1907.11692. The defaults are BERT-base (uncased). RoBERTa-base is vocabulary=50_265,
    length=514, first=2, segments=1, epsilon=1e-5; DistilBERT is layers=6, segments=0. Weights are drawn from a normal
    distribution of spread 0.02, which is not truncated here.

    It is called with `tokens` int `[batch, length]`; `token_mask` `[batch, length]`, above 0 for tokens and 0 for
    padding, which stands after them; and `segment` int `[batch, length]`, which part of the text a token is of, 0
    where it is not told. The first token is the one of the whole text, [CLS].

    Taps, for l tokens and w = width (more in `transformer.py`):
        embed: `[batch, l, w]`, tokens, positions and segments, after their norm, before dropout.
        block0 .. block{layers-1}: `[batch, l, w]`, what each block gives, after its norm; and of each its query, key,
            value, scores and attention.
        final: `[batch, l, w]`, the last of these.
        pooled: `[batch, w]`, float32: of the first token, behind a linear layer and tanh where it says classes (what
            the head reads, before dropout), and as it is where it says tokens.

    Attributes:
        classes: number of logits.
        predicts: "class", one prediction for a text, or "token", one for each token, as masked language models do:
            behind a linear layer and a norm, by the embedding's kernel; `classes` is then the vocabulary.
        vocabulary: tokens that there are.
        hidden: units of the feed-forward part; 0 for 4 times the width.
        length: rows of the table of positions.
        first: the row of the first position (RoBERTa: 2).
        segments: parts that a text may have; 0 for no such embedding.
        activation: "gelu", "gelu_tanh", "relu" or "swiglu".
        dense: whether logits of tokens are computed; they are an `Unembedding` otherwise, which losses read some
            tokens at a time.
        dropout: rate, of embeddings, attention, both parts of a block and what the classifier reads (BERT: 0.1).
        remat: "", "block" or "products": what a block keeps for the backward pass is all, its input, or its products.
        scan: whether the layers are one layer that is scanned, which compiles faster; its params have another shape.
        dtype: of the computation; params, norms, softmax and the classifier are float32.

    Raises:
        UserError: on construction, for numbers that do not fit each other; and for more tokens than positions.
    """

    classes: int
    predicts: str = "class"
    vocabulary: int = 30_522
    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 0
    length: int = 512
    first: int = 0
    segments: int = 2
    epsilon: float = 1e-12
    activation: str = "gelu"
    dense: bool = False
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    dtype: Any = jnp.float32

    inputs = ("tokens", "token_mask", "segment")
    axes = transformer.AXES
    bidirectional = True

    def __post_init__(self):
        if self.predicts not in ("class", "token"):
            raise unknown("kind of prediction", self.predicts, ("class", "token"))
        if self.predicts == "token" and self.classes != self.vocabulary:
            raise UserError(
                f"predicts='token' has a logit for each of vocabulary={self.vocabulary}, and classes={self.classes};"
                " make them the same"
            )
        check_least("vocabulary", self.vocabulary, 1)
        check_least("first", self.first, 0)
        check_least("length", self.length, self.first + 1)
        check_least("segments", self.segments, 0)
        _style(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        train: bool = False,
        token_mask: jax.Array | None = None,
        segment: jax.Array | None = None,
    ) -> Output:
        style, taps = _style(self), {}
        places = transformer.places(tokens, token_mask)
        transformer.check_length(tokens, self.length - self.first)
        words = transformer.embed(self.vocabulary, style, "embed")
        x = words(transformer.known(tokens, token_mask))
        x = x + transformer.embed(self.length, style, "positions")(places + self.first)
        if self.segments:
            segment = jnp.zeros_like(tokens) if segment is None else segment
            x = x + transformer.embed(self.segments, style, "segments")(segment)
        x = taps["embed"] = transformer.normalize(style, "embed_norm")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        seen = transformer.visible(tokens.shape[1], token_mask, causal=False)
        x = taps["final"] = transformer.stack(x, taps, style, seen, places, train)
        first = x[:, 0]
        if self.predicts == "token":
            taps["pooled"] = first.astype(jnp.float32)
            x = nn.gelu(transformer.project(self.width, style, name="head_dense")(x), approximate=False)
            x = transformer.normalize(style, "head_norm")(x)
            head = transformer.Head(self.classes, bias=True, dense=self.dense, name="head")
            return head(x, taps, words.embedding)
        pooled = nn.tanh(transformer.project(self.width, style, name="pooler")(first)).astype(jnp.float32)
        taps["pooled"] = pooled
        pooled = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        return Output(transformer.classifier(self.classes)(pooled), taps)


def _style(model: Encoder) -> transformer.Style:
    return transformer.Style.of(model, norm_first=False)
