"""Vision transformer."""

import functools
import math
import types
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdistill import products
from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.models import residual, transformer
from jaxdistill.models.attention import Visibility, describe

POOLS = ("class", "tanh", "class_mean")
DISTILLATIONS = ("", "token", "head")


class ViT(nn.Module):
    """ViT-Ti, -S, -B and -L, DeiT, DINOv2, and smaller ones for small images.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, https://arxiv.org/abs/2010.11929; the sizes Ti and
    S are those of Touvron et al., "Training data-efficient image transformers & distillation through attention"
    (DeiT), ICML 2021, https://arxiv.org/abs/2012.12877. (width, heads, layers) is (192, 3, 12), (384, 6, 12),
    (768, 12, 12) and (1024, 16, 24). Pre-norm, exact GELU, a class token and learned positions. DeiT is
    distillation="head". DINOv2 (Oquab et al., 2023, https://arxiv.org/abs/2304.07193) is patch=14, size=518,
    interpolate=True, layer_scale=1.0, and in its giant activation="swiglu". Weights are drawn from a normal
    distribution of spread 0.02; the authors' and timm's differ from this and from each other.

    Taps, for x `[batch, height, width, channels]`, l = t + (height / patch) (width / patch), w = `width` and t = 1 or,
    with a distillation token, 2 (details in `transformer.py`):
        embed: `[batch, l, w]`, the class token (and the distillation token) and the patches, with their positions,
            before dropout.
        block0 .. block{layers-1}: `[batch, l, w]`, the residual stream after each block; and of each its query, key,
            value, scores and attention.
        final: `[batch, l, w]`, after the last norm.
        pooled: `[batch, w]`, float32, by `pool`; `[batch, 2 w]` if it is "class_mean".
        class_logits, distillation_logits: `[batch, classes]`, float32, if `distillation` is "head": the logits of both
            heads, of which the first is one of `pooled` and the second of `final` at the distillation token.

    Attributes:
        classes: number of logits; 0 for an encoder.
        patch: side of a patch, in pixels.
        size: side of the images that the positions are of; 0 for the images at initialisation.
        interpolate: whether positions are interpolated for images of another size, as DINOv2 does.
        hidden: width of the feed-forward layer; 0 for 4 times `width`.
        activation: "gelu", "gelu_tanh", "relu", or a gated one, "swiglu" or "geglu_tanh".
        layer_scale: initial value of learned factors of both parts of a block; 0 for no factors.
        pool: the input of the head: "class", `final` at the class token, the first one; "tanh", that after a linear
            layer and tanh; "class_mean", that beside the mean of the patches.
        distillation: "head" for a distillation token whose own head is averaged with that of the class token, in
            training too; "token" for the token alone; "" for neither.
        dropout: rate, of embeddings, attention and both parts of a block (the paper: 0.1 without much data).
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only its
            matrix products.
        scan: whether one layer is scanned over stacked params, which compiles faster.
        attention: "xla", "chunked", "splash", "cudnn", or "auto" by length and device; see `attention.py`.
        dtype: of the computation; params, norms, softmax and the classifier are float32.

    Raises:
        UserError: on construction, for sizes that do not divide each other; and for images not divisible by `patch`,
            or of another size than the positions' without `interpolate`.
    """

    classes: int
    patch: int = 16
    size: int = 0
    interpolate: bool = False
    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 0
    activation: str = "gelu"
    layer_scale: float = 0.0
    pool: str = "class"
    distillation: str = ""
    epsilon: float = 1e-6
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    attention: str = "auto"
    dtype: Any = jnp.float32

    inputs = ("image",)
    axes = transformer.AXES
    tpu_options = types.MappingProxyType({"xla_tpu_scoped_vmem_limit_kib": "26624"})  # found by trying, docs/tpu.md
    forward_mode = False

    def __post_init__(self) -> None:
        check_least("patch", self.patch, 1)
        check_least("size", self.size, 0)
        if self.size % self.patch:
            raise UserError(f"size must be a multiple of patch={self.patch}, got {self.size}")
        if self.interpolate and not self.size:
            raise UserError("interpolate=True needs size, the side of the images that the positions are of, got size=0")
        for name, options in (("pool", POOLS), ("distillation", DISTILLATIONS)):
            if getattr(self, name) not in options:
                raise unknown(name, getattr(self, name), options)
        transformer.Style.of(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        style, taps = transformer.Style.of(self), {}
        names = ("class_token", "distillation_token") if self.distillation else ("class_token",)
        tokens = [self.param(name, nn.initializers.zeros, (1, 1, self.width)) for name in names]
        grid = (x.shape[1] // self.patch, x.shape[2] // self.patch)
        product = functools.partial(multiply_patches, (*grid, self.patch))
        x = transformer.project(self.width, style, dot_general=product, name="patches")(_cut_patches(x, self.patch))
        x = jnp.concatenate([*(jnp.broadcast_to(t, (x.shape[0], 1, self.width)).astype(x.dtype) for t in tokens), x], 1)
        x = x + self._positions(grid, len(tokens)).astype(x.dtype)
        taps["embed"] = x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        positions = jnp.arange(x.shape[1])[None]
        x = transformer.run_blocks(x, taps, style, visibility=Visibility(), positions=positions, train=train)
        final = taps["final"] = transformer.normalize(style, "final_norm")(x)
        pooled = final[:, 0]
        if self.pool == "tanh" and self.classes:
            pooled = nn.tanh(transformer.project(self.width, style, name="pooler")(pooled))
        elif self.pool == "class_mean":
            pooled = jnp.concatenate([pooled, jnp.mean(final[:, len(tokens) :], 1)], -1)
        pooled = taps["pooled"] = pooled.astype(jnp.float32)
        logits = residual.classifier(self.classes, transformer.initial)(pooled)
        if self.distillation == "head" and self.classes:
            right = residual.classifier(self.classes, transformer.initial, "distillation_head")(
                final[:, 1].astype(jnp.float32)
            )
            taps |= {"class_logits": logits, "distillation_logits": right}
            logits = (logits + right) / 2
        return Output(logits, taps)

    def describe(self, output: Output) -> str:
        """Describes the implementation of attention, for `--plan`."""
        return describe(self, output.taps)

    def _positions(self, grid: tuple[int, int], tokens: int) -> Float[Array, "1 length width"]:
        """Returns the positions of the tokens and of a grid of patches."""
        side = self.size // self.patch
        shape = (side, side) if side else grid
        table = self.param("positions", transformer.initial, (1, tokens + math.prod(shape), self.width))
        if grid == shape:
            return table
        if not self.interpolate:
            got = " x ".join(str(number * self.patch) for number in grid)
            raise UserError(
                f"images must be {self.size} x {self.size}, those of the positions, got {got}. Set interpolate=True, or"
                " resize the images"
            )
        patches = table[0, tokens:].reshape(*shape, self.width)
        rows, columns = (bicubic(old, new) for old, new in zip(shape, grid, strict=True))
        patches = jnp.einsum("ai,bj,ijw->abw", rows, columns, patches, precision="highest")
        return jnp.concatenate([table[:, :tokens], patches.reshape(1, -1, self.width)], 1)


def bicubic(old: int, new: int) -> np.ndarray:
    """Returns the matrix `[new, old]` of cubic convolution along one axis, as PyTorch's `interpolate` has it.

    Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, equation 15 in its general form with
    a = -0.75 instead of -0.5; centres are aligned, the border is repeated, and nothing is smoothed.
    """
    place = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(place).astype(int)
    matrix, a = np.zeros((new, old), np.float32), -0.75
    for offset in (-1, 0, 1, 2):
        d = np.abs(place - first - offset)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = a * (((d - 5) * d + 8) * d - 4)
        column = np.clip(first + offset, 0, old - 1)
        np.add.at(matrix, (np.arange(new), column), np.where(d <= 1, near, far))
    return matrix


def _cut_patches(x: Float[Array, "batch height width channels"], side: int) -> Float[Array, "batch patches numbers"]:
    """Cuts images into patches of `side * side * channels` numbers, row by row.

    A linear layer over these is the convolution of the authors, with its kernel reshaped.
    """
    batch, height, width, channels = x.shape
    if height % side or width % side:
        raise UserError(f"patch must divide the images' height and width, {height} x {width}, got {side}")
    x = x.reshape(batch, height // side, side, width // side, side, channels).swapaxes(2, 3)
    return x.reshape(batch, -1, side * side * channels)


def multiply_patches(
    grid: tuple[int, int, int],
    patches: Float[Array, "batch patches numbers"],
    kernel: Float[Array, "numbers width"],
    dimension_numbers: Any,
    *,
    precision: Any = None,
) -> Float[Array, "batch patches width"]:
    """Returns `products.dot_general` of patches, `[rows, columns, side]` of an image, with a kernel.

    On a TPU it is the convolution of the images, which need not be cut then: the compiler drops both cutting and this
    function's reversal of it. A copy of the images as patches takes longer than the product (`docs/tpu.md`).
    """
    if products.platform() != "tpu":
        return products.dot_general(patches, kernel, dimension_numbers, precision)
    rows, columns, side = grid
    batch, channels = patches.shape[0], patches.shape[-1] // side**2
    x = patches.reshape(batch, rows, columns, side, side, channels).swapaxes(2, 3)
    x = x.reshape(batch, rows * side, columns * side, channels)
    kernel = kernel.reshape(side, side, channels, -1)
    axes = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (side, side), "VALID", dimension_numbers=axes, precision=precision)
    return y.reshape(batch, rows * columns, -1)
