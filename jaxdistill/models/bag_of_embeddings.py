"""Bags of embeddings: the mean of a text's embeddings and a multi-layer perceptron."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_fraction, check_least
from jaxdistill.models import transformer


class BagOfEmbeddings(nn.Module):
    """Deep averaging network: embeddings, their mean over the tokens, fully connected layers with ReLU.

    Iyyer, Manjunatha, Boyd-Graber, Daumé III, "Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification", ACL 2015, https://aclanthology.org/P15-1162. Their dropout of whole words is not part of it. The
    order of tokens, and padding on either side, change nothing. Embeddings are drawn from a normal distribution of
    spread 0.02, other weights as in He et al., https://arxiv.org/abs/1502.01852.

    Its inputs are `tokens` int `[batch, length]` and `token_mask` `[batch, length]`, above 0 for tokens.

    Taps, for l tokens:
        embed: `[batch, l, width]`, 0 for padding.
        mean: `[batch, width]`, the mean of these.
        hidden1 .. hiddenN: `[batch, widths[i]]`, after ReLU, before dropout.
        pooled: the last of these, in float32; the mean without hidden layers.

    Attributes:
        classes: number of logits.
        vocabulary: number of tokens.
        width: of an embedding.
        widths: widths of the hidden layers.
        dropout: rate of dropout of the mean and after every hidden layer.
        dtype: of the computation; params, the mean and the last layer are float32.
    """

    classes: int
    vocabulary: int = 30_522
    width: int = 300
    widths: tuple[int, ...] = (300,)
    dropout: float = 0.0
    dtype: Any = jnp.float32

    inputs = ("tokens", "token_mask")
    axes = (("/embed/embedding$", ("vocabulary", "width")),)

    def __post_init__(self) -> None:
        check_least("vocabulary", self.vocabulary, 1)
        check_least("width", self.width, 1)
        check_fraction("dropout", self.dropout)
        if not all(isinstance(width, int) and width > 0 for width in self.widths):
            raise UserError(f"widths must be whole numbers of 1 or more, or (), got {self.widths}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        token_mask: Shaped[Array, "batch length"] | None = None,
    ) -> Output:
        taps = {}
        is_token = transformer.token_presence(tokens, token_mask)
        embed = nn.Embed(
            self.vocabulary, self.width, embedding_init=transformer.initial, dtype=self.dtype, name="embed"
        )
        x = taps["embed"] = embed(transformer.mask_tokens(tokens, token_mask)) * is_token.astype(self.dtype)
        total = jnp.sum(x, 1, dtype=jnp.float32)
        pooled = total / jnp.maximum(jnp.sum(is_token, 1, dtype=jnp.float32), 1)
        x = taps["mean"] = pooled.astype(self.dtype)
        for number, width in enumerate(self.widths, start=1):
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = nn.Dense(width, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=f"dense{number}")(x)
            x = pooled = taps[f"hidden{number}"] = nn.relu(x)
        taps["pooled"] = pooled.astype(jnp.float32)
        x = nn.Dropout(self.dropout, deterministic=not train)(taps["pooled"])
        return Output(nn.Dense(self.classes, dtype=jnp.float32, name="head")(x), taps)
