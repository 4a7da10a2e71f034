"""ConvNeXt: residual blocks of a 7x7 by channel and a feed-forward layer."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_fraction, check_least, check_positive
from jaxdistill.models import residual
from jaxdistill.models.gelu import gelu
from jaxdistill.models.remat import check_remat, rematerialize

initial = nn.initializers.truncated_normal(0.02)


def layer_norm(epsilon: float, *, dtype: Any, name: str) -> nn.LayerNorm:
    """Returns a layer norm over channels, with statistics in float32."""
    # The fast variance, E[x^2] - E[x]^2, loses digits if the mean is large.
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, dtype=dtype, name=name)


class ConvNeXtBlock(nn.Module):
    """7x7 by channel, layer norm, a dense layer of four times the width, GELU and a dense layer, beside a shortcut.

    Attributes:
        layer_scale: initial value of the scales of the result; without them if 0.
        drop: fraction of examples for which training leaves the block out (stochastic depth, Huang et al., ECCV 2016,
            https://arxiv.org/abs/1603.09382); the others are divided by 1 - drop.
    """

    layer_scale: float
    drop: float
    epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch height width channels"]:
        shortcut, width = x, x.shape[-1]
        depthwise = functools.partial(residual.conv, width, 7, groups=width, bias=True)
        x = depthwise(init=initial, dtype=self.dtype, name="depthwise_conv")(x)
        x = layer_norm(self.epsilon, dtype=self.dtype, name="norm")(x)
        x = nn.Dense(4 * width, kernel_init=initial, dtype=self.dtype, name="expand")(x)
        x = gelu(x)
        x = nn.Dense(width, kernel_init=initial, dtype=self.dtype, name="project")(x)
        if self.layer_scale:
            scale = self.param("layer_scale", nn.initializers.constant(self.layer_scale), (width,))
            x = x * scale.astype(x.dtype)[None, None, None]
        # One draw for each example.
        x = nn.Dropout(self.drop, broadcast_dims=(1, 2, 3), deterministic=not train)(x)
        return x + shortcut


class ConvNeXt(nn.Module):
    """ConvNeXt-T, -S, -B and -L, and smaller ones.

    Liu et al., "A ConvNet for the 2020s", CVPR 2022, https://arxiv.org/abs/2201.03545; equal to torchvision's
    `convnext_tiny` to `_large`, timm's of these names and `ConvNextForImageClassification` of transformers. T, S, B and
    L have `depths` (3, 3, 9, 3), then (3, 3, 27, 3), and `widths` (96, 192, 384, 768), the same, (128, 256, 512, 1024)
    and (192, 384, 768, 1536).

    Taps, for x `[batch, 224, 224, 3]`, with w = `widths`:
        stem: `[batch, 56, 56, w1]`, the patches after their layer norm.
        stage1 .. stage4: `[batch, 56, 56, w1]`, `[batch, 28, 28, w2]`, `[batch, 14, 14, w3]`, `[batch, 7, 7, w4]`;
            no activation ends a stage.
        stage1/preact ..: the same arrays.
        stage1/block0 ..: each block's output; the last one is the stage.
        pooled: `[batch, w4]`, float32, the mean of stage4 after a layer norm.

    Attributes:
        classes: number of logits; 0 for an encoder, without the last norm.
        depths: numbers of blocks of the stages.
        widths: channels of the stages.
        patch: side of a patch of the stem, in pixels.
        layer_scale: initial value of the scales of each block's result; without them if 0.
        drop_path: fraction of examples for which training leaves out the last block, and proportionally fewer for
            earlier ones (stochastic depth; the paper: 0.1, 0.4, 0.5 and 0.5 for T to L).
        epsilon: of the layer norms.
        final_epsilon: of the layer norm of the mean.
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only the
            results of its products with weights.
        dtype: of the computation; params, the last norm and the last layer are float32.

    Raises:
        UserError: on construction, for invalid fields; and for images smaller than the halvings need.
    """

    classes: int = 1000
    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    patch: int = 4
    layer_scale: float = 1e-6
    drop_path: float = 0.0
    epsilon: float = 1e-6
    final_epsilon: float = 1e-6
    remat: str = ""
    dtype: Any = jnp.float32

    inputs = ("image",)
    axes = (("/depthwise_conv/kernel$", residual.GROUPED), *residual.GROUPED_AXES)

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.widths) or min(*self.depths, *self.widths) < 1:
            raise UserError(
                "ConvNeXt's depths and widths must be positive numbers, one of each for each stage, "
                f"got {self.depths} and {self.widths}. Give as many of the one as of the other"
            )
        check_least("ConvNeXt's patch", self.patch, 1)
        check_least("ConvNeXt's layer_scale", self.layer_scale, 0)
        check_fraction("ConvNeXt's drop_path", self.drop_path)
        check_positive("ConvNeXt's epsilon", self.epsilon)
        check_positive("ConvNeXt's final_epsilon", self.final_epsilon)
        check_remat(self.remat)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        least = self.patch * 2 ** (len(self.depths) - 1)
        if min(x.shape[1:3]) < least:
            side = min(x.shape[1:3])
            raise UserError(f"ConvNeXt's images must be at least {least} pixels a side, got {side}. Resize them")
        block = functools.partial(
            rematerialize(ConvNeXtBlock, self.remat), self.layer_scale, epsilon=self.epsilon, dtype=self.dtype
        )
        taps, number, last = {}, 0, sum(self.depths) - 1
        for index, (count, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            name = f"stage{index + 1}"
            if index == 0:
                x = self._conv(width, self.patch, "stem_conv")(x)
                x = taps["stem"] = layer_norm(self.epsilon, dtype=self.dtype, name="stem_norm")(x)
            else:
                x = layer_norm(self.epsilon, dtype=self.dtype, name=f"{name}_norm")(x)
                x = self._conv(width, 2, f"{name}_conv")(x)
            for place in range(count):
                drop = self.drop_path * number / max(last, 1)
                x = taps[f"{name}/block{place}"] = block(drop=drop, name=f"{name}_block{place}")(x, train)
                number += 1
            taps[name] = taps[f"{name}/preact"] = x
        x = residual.pool(x)
        if self.classes:
            x = layer_norm(self.final_epsilon, dtype=jnp.float32, name="final_norm")(x)
        taps["pooled"] = x
        return Output(residual.classifier(self.classes, initial)(x), taps)

    def _conv(self, width: int, size: int, name: str) -> nn.Conv:
        """Returns a convolution of disjoint patches; places that fill no patch are left out, as in PyTorch."""
        return nn.Conv(
            width,
            (size, size),
            strides=(size, size),
            padding="VALID",
            kernel_init=initial,
            dtype=self.dtype,
            name=name,
        )
