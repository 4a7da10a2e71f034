"""MobileNetV2: inverted residuals with linear bottlenecks."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_fraction, check_positive
from jaxdistill.models import residual
from jaxdistill.models.remat import check_remat, rematerialize

GROUPS = ((1, 16, 1), (6, 24, 2), (6, 32, 2), (6, 64, 2), (6, 96, 1), (6, 160, 2), (6, 320, 1))
"""(expansion, channels, stride) of each group of blocks: Sandler et al., table 2."""

STAGES = ((0, 1), (2,), (3, 4), (5, 6))
"""Groups of each stage; a stage ends before the next halving, as the stages of a ResNet do."""


class InvertedResidual(nn.Module):
    """Convolutions 1x1 to `expand` times the channels, 3x3 by channel, and 1x1; and a shortcut if the shape stays.

    Attributes:
        channels: of the output, which has no activation.
        stride: of the 3x3.
        expand: number of inner channels for each channel of the input; 0 is 1 without the first 1x1.
        active: activation of the inner channels.
        inputs: channels that the input is declared with, of which fewer may be there; 0 for its own.
    """

    channels: int
    stride: int
    expand: int
    active: Callable[[Array], Array]
    inputs: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch _ _ {self.channels}"]:
        shortcut, inner = x, x.shape[-1] * max(self.expand, 1)
        if self.expand:
            x = residual.conv(inner, 1, dtype=self.dtype, name="expand_conv")(x)
            x = self.active(residual.norm(train, dtype=self.dtype, name="expand_norm")(x))
        x = residual.conv(inner, 3, self.stride, groups=inner, dtype=self.dtype, name="depthwise_conv")(x)
        x = self.active(residual.norm(train, dtype=self.dtype, name="depthwise_norm")(x))
        x = residual.conv(self.channels, 1, dtype=self.dtype, name="project_conv")(x)
        x = residual.norm(train, dtype=self.dtype, name="project_norm")(x)
        stays = self.stride == 1 and (self.inputs or shortcut.shape[-1]) == self.channels
        return x + shortcut if stays else x


class MobileNetV2(nn.Module):
    """MobileNetV2 of any width.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
    https://arxiv.org/abs/1801.04381. The form "imagenet" equals torchvision's `mobilenet_v2` and timm's
    `mobilenetv2_050` and `_100`: ReLU6, and channels that are multiples of 8. The form "cifar" equals
    `models/mobilenetv2.py` of https://github.com/HobbitLong/RepDistiller, at width 0.5 its `mobile_half`: ReLU,
    channels rounded down, a first 1x1 in the first block too, and no stride in the second group.

    Taps, for x `[batch, 224, 224, 3]` at width 1:
        stem: `[batch, 112, 112, 32]`, after the activation.
        stage1 .. stage4: `[batch, 56, 56, 24]`, `[batch, 28, 28, 32]`, `[batch, 14, 14, 96]`, `[batch, 7, 7, 320]`,
            the outputs of the last block before each halving; no activation follows. In the form "cifar" for 32x32:
            16, 8, 4 and 2 places a side. These are the features of RepDistiller.
        stage1/preact ..: the same arrays.
        stage1/block0 ..: each block's output; the last one is the stage.
        final: `[batch, 7, 7, 1280]`, after the last 1x1 and its activation.
        pooled: `[batch, 1280]`, float32.

    Attributes:
        classes: number of logits; 0 for an encoder, without the last 1x1.
        width: multiplies the channels; the 1280 of the last 1x1 only if it is above 1.
        depths: numbers of blocks of the seven groups; a stage whose groups have none is left out.
        form: "imagenet" or "cifar".
        dropout: rate before the last layer (torchvision: 0.2).
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only the
            results of its convolutions.
        dtype: of the computation; params, statistics and the last layer are float32.

    Raises:
        UserError: on construction, for unknown forms, or other than seven groups.
    """

    classes: int = 1000
    width: float = 1.0
    depths: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
    form: str = "imagenet"
    dropout: float = 0.0
    remat: str = ""
    dtype: Any = jnp.float32

    inputs = ("image",)
    axes = (("/depthwise_conv/kernel$", residual.GROUPED), *residual.GROUPED_AXES)

    def __post_init__(self) -> None:
        if len(self.depths) != len(GROUPS) or min(self.depths) < 0 or not any(self.depths):
            raise UserError(
                f"MobileNetV2's depths must be {len(GROUPS)} numbers of 0 or more, not all 0, got {self.depths}. "
                "Give one for each group of blocks"
            )
        check_positive("MobileNetV2's width", self.width)
        check_fraction("MobileNetV2's dropout", self.dropout)
        residual.check_form("MobileNetV2", self.form)
        check_remat(self.remat)
        super().__post_init__()

    def scaled(self, channels: int, width: float | None = None) -> int:
        """Returns a number of channels times the width, rounded by the rule of the form."""
        exact = channels * (self.width if width is None else width)
        if self.form == "cifar":
            return max(int(exact), 1)
        nearest = max(8, int(exact + 4) // 8 * 8)
        # The authors' rule: rounding removes no more than a tenth.
        return nearest + 8 if nearest < 0.9 * exact else nearest

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        active = nn.relu6 if self.form == "imagenet" else nn.relu
        block = functools.partial(rematerialize(InvertedResidual, self.remat), active=active, dtype=self.dtype)
        taps, before = {}, self.scaled(32)
        x = residual.conv(self.scaled(32), 3, 2, dtype=self.dtype, name="stem_conv")(x)
        x = taps["stem"] = active(residual.norm(train, dtype=self.dtype, name="stem_norm")(x))
        for number, groups in enumerate(STAGES, start=1):
            name = f"stage{number}"
            if not any(self.depths[group] for group in groups):
                continue
            for index, (channels, stride, expand) in enumerate(self._blocks(groups)):
                x = block(channels, stride, expand, inputs=before, name=f"{name}_block{index}")(x, train)
                before = channels
                taps[f"{name}/block{index}"] = x
            taps[name] = taps[f"{name}/preact"] = x
        if self.classes:
            last = self.scaled(1280, max(self.width, 1.0))
            x = residual.conv(last, 1, dtype=self.dtype, name="final_conv")(x)
            x = taps["final"] = active(residual.norm(train, dtype=self.dtype, name="final_norm")(x))
        pooled = taps["pooled"] = residual.pool(x)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        return Output(residual.classifier(self.classes, nn.initializers.normal(0.01))(dropped), taps)

    def _blocks(self, groups: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
        """Yields (channels, stride, expand) of the blocks of a stage."""
        for group in groups:
            expand, channels, stride = GROUPS[group]
            if self.form == "imagenet" and expand == 1:
                expand = 0
            if self.form == "cifar" and group == 1:
                stride = 1
            for index in range(self.depths[group]):
                yield self.scaled(channels), stride if index == 0 else 1, expand
