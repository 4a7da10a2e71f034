"""Vision transformer."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least
from jaxdistill.models import transformer


class ViT(nn.Module):
    """ViT-Ti, -S, -B and -L, and smaller ones for small images.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, https://arxiv.org/abs/2010.11929; the sizes Ti and
    S are those of Touvron et al., "Training data-efficient image transformers & distillation through attention"
    (DeiT), ICML 2021, https://arxiv.org/abs/2012.12877. (width, heads, layers) is (192, 3, 12), (384, 6, 12),
    (768, 12, 12) and (1024, 16, 24). Pre-norm, exact GELU, a class token and learned positions, one for each patch of
    the images at initialisation. Weights are drawn from a normal distribution of spread 0.02; the
    authors' and timm's differ from this and from each other.

    Taps, for x `[batch, height, width, channels]`, l = 1 + (height / patch) (width / patch) and w = `width`
    (details in `transformer.py`):
        embed: `[batch, l, w]`, the class token and the patches, with their positions, before dropout.
        block0 .. block{layers-1}: `[batch, l, w]`, the residual stream after each block; and of each its query, key,
            value, scores and attention.
        final: `[batch, l, w]`, after the last norm.
        pooled: `[batch, w]`, float32, `final` at the class token, the first one.

    Attributes:
        classes: number of logits.
        patch: side of a patch, in pixels.
        hidden: width of the feed-forward layer; 0 for 4 times `width`.
        dropout: rate, of embeddings, attention and both parts of a block (the paper: 0.1 without much data).
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only its
            matrix products.
        scan: whether one layer is scanned over stacked params, which compiles faster.
        dtype: of the computation; params, norms, softmax and the classifier are float32.

    Raises:
        UserError: on construction, for sizes that do not divide each other; and for images not divisible by `patch`.
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

    def __post_init__(self) -> None:
        check_least("patch", self.patch, 1)
        transformer.Style.of(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        style, taps = transformer.Style.of(self), {}
        x = transformer.project(self.width, style, name="patches")(_cut_patches(x, self.patch))
        token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width)).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param("positions", transformer.initial, (1, *x.shape[1:])).astype(x.dtype)
        taps["embed"] = x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        positions = jnp.arange(x.shape[1])[None]
        visible = transformer.attention_mask(x.shape[1], None, causal=False)
        x = transformer.run_blocks(x, taps, style, visible=visible, positions=positions, train=train)
        final = taps["final"] = transformer.normalize(style, "final_norm")(x)
        pooled = taps["pooled"] = final[:, 0].astype(jnp.float32)
        return Output(transformer.classifier(self.classes)(pooled), taps)


def _cut_patches(x: Float[Array, "batch height width channels"], side: int) -> Float[Array, "batch patches numbers"]:
    """Cuts images into patches of `side * side * channels` numbers, row by row.

    A linear layer over these is the convolution of the authors, with its kernel reshaped.
    """
    batch, height, width, channels = x.shape
    if height % side or width % side:
        raise UserError(f"patch must divide the images' height and width, {height} x {width}, got {side}")
    x = x.reshape(batch, height // side, side, width // side, side, channels).swapaxes(2, 3)
    return x.reshape(batch, -1, side * side * channels)
