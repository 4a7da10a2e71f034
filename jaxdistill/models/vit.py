"""The vision transformer: an image is a text of patches."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least
from jaxdistill.models import transformer


class ViT(nn.Module):
    """ViT-Ti, -S, -B and -L, and smaller ones for small images.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, https://arxiv.org/abs/2010.11929; the sizes Ti and
    S are those of Touvron et al., "Training data-efficient image transformers & distillation through attention"
    (DeiT), ICML 2021, https://arxiv.org/abs/2012.12877. (width, heads, layers) is (192, 3, 12), (384, 6, 12),
    (768, 12, 12) and (1024, 16, 24). Pre-norm, exact GELU, a class token and learned positions, of as many patches as
    the images have that it is initialised with. Weights are drawn from a normal distribution of spread 0.02; the
    authors' and timm's differ from this and from each other.

    Taps, for x `[batch, height, width, channels]`, l = 1 + (height / patch) (width / patch) and w = its `width`
    (more in `transformer.py`):
        embed: `[batch, l, w]`, the class token and the patches, with their positions, before dropout.
        block0 .. block{layers-1}: `[batch, l, w]`, the residual stream after each block; and of each its query, key,
            value, scores and attention.
        final: `[batch, l, w]`, after the last norm.
        pooled: `[batch, w]`, float32, `final` at the class token, which is the first.

    Attributes:
        classes: number of logits.
        patch: its side, in pixels.
        hidden: units of the feed-forward part; 0 for 4 times the width.
        dropout: rate, of embeddings, attention and both parts of a block (the paper: 0.1 without much data).
        remat: "", "block" or "products": what a block keeps for the backward pass is all, its input, or its products.
        scan: whether the layers are one layer that is scanned, which compiles faster; its params have another shape.
        dtype: of the computation; params, norms, softmax and the classifier are float32.

    Raises:
        UserError: on construction, for numbers that do not divide each other; and for images that are no patches.
    """

    classes: int
    patch: int = 16
    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 0
    epsilon: float = 1e-6
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    dtype: Any = jnp.float32

    inputs = ("image",)
    axes = transformer.AXES

    def __post_init__(self):
        check_least("patch", self.patch, 1)
        transformer.Style.of(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        style, taps = transformer.Style.of(self), {}
        x = transformer.project(self.width, style, name="patches")(_patches(x, self.patch))
        token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width)).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param("positions", transformer.initial, (1, *x.shape[1:])).astype(x.dtype)
        taps["embed"] = x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        places = jnp.arange(x.shape[1])[None]
        seen = transformer.visible(x.shape[1], None, causal=False)
        x = transformer.stack(x, taps, style, seen, places, train)
        final = taps["final"] = transformer.normalize(style, "final_norm")(x)
        pooled = taps["pooled"] = final[:, 0].astype(jnp.float32)
        return Output(transformer.classifier(self.classes)(pooled), taps)


def _patches(x: jax.Array, side: int) -> jax.Array:
    """Cuts images `[batch, height, width, channels]` into `[batch, patches, side * side * channels]`, row by row.

    A linear layer over these is the convolution of the authors, with its kernel reshaped.
    """
    batch, height, width, channels = x.shape
    if height % side or width % side:
        raise UserError(
            f"images of {height} x {width} are not whole patches of patch={side}; take one that divides both"
        )
    x = x.reshape(batch, height // side, side, width // side, side, channels).swapaxes(2, 3)
    return x.reshape(batch, -1, side * side * channels)
