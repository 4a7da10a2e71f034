"""ShuffleNet V2: units that transform half of their channels."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least
from jaxdistill.models import residual
from jaxdistill.models.remat import check_remat, rematerialize
from jaxdistill.models.shufflenet_v1 import shuffle


class SplitUnit(nn.Module):
    """1x1, 3x3 by channel and 1x1 on the second half of the channels; returns both halves, shuffled, before the ReLU.

    With stride 2, both halves are computed from all channels, the first by a 3x3 by channel and a 1x1. Without stride,
    the first half is unchanged and not negative, so that the ReLU leaves it as it is.
    """

    channels: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch _ _ {self.channels}"]:
        conv = functools.partial(residual.conv, init=residual.torch_linear, dtype=self.dtype)
        norm = functools.partial(residual.norm, train, dtype=self.dtype)
        half = self.channels // 2
        if self.stride == 1:
            first, x = jnp.split(x, 2, axis=-1)
        else:
            first = conv(x.shape[-1], 3, 2, groups=x.shape[-1], name="shortcut_conv1")(x)
            first = conv(half, 1, name="shortcut_conv2")(norm(name="shortcut_norm1")(first))
            first = norm(name="shortcut_norm2")(first)
        x = nn.relu(norm(name="norm1")(conv(half, 1, name="conv1")(x)))
        x = norm(name="norm2")(conv(half, 3, self.stride, groups=half, name="conv2")(x))
        x = norm(name="norm3")(conv(half, 1, name="conv3")(x))
        return shuffle(jnp.concatenate([first, x], -1), 2)


class ShuffleNetV2(nn.Module):
    """ShuffleNet V2 of any width.

    Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018,
    https://arxiv.org/abs/1807.11164. The form "imagenet" equals torchvision's `shufflenet_v2_x0_5` to `_x2_0`, by
    `channels`: (48, 96, 192, 1024), (116, 232, 464, 1024), (176, 352, 704, 1024), (244, 488, 976, 2048). The form
    "cifar" equals `models/ShuffleNetv2.py` of https://github.com/HobbitLong/RepDistiller: a 1x1 stem without stride and
    without pooling.

    Taps, for x `[batch, 224, 224, 3]`, with c = `channels`:
        stem: `[batch, 56, 56, 24]`, after ReLU and max-pooling.
        stage1, stage2, stage3: `[batch, 28, 28, c1]`, `[batch, 14, 14, c2]`, `[batch, 7, 7, c3]`, after ReLU; the
            paper's stages 2 to 4. In the form "cifar" for 32x32: 16, 8 and 4 places a side, and the stem 32.
        stage1/preact ..: the same before the last ReLU; RepDistiller's are not shuffled.
        stage1/block0 ..: each unit's output, after ReLU; the last one is the stage.
        final: `[batch, 7, 7, c4]`, after the last 1x1 and ReLU.
        pooled: `[batch, c4]`, float32.

    Attributes:
        classes: number of logits; 0 for an encoder, without the last 1x1.
        channels: of each stage, even, and of the last 1x1.
        depths: numbers of units of the stages.
        form: "imagenet" or "cifar".
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only the
            results of its convolutions.
        dtype: of the computation; params, statistics and the last layer are float32.

    Raises:
        UserError: on construction, for odd channels, unknown forms, and lengths of `channels` and `depths` that differ.
    """

    classes: int = 1000
    channels: tuple[int, ...] = (116, 232, 464, 1024)
    depths: tuple[int, ...] = (4, 8, 4)
    form: str = "imagenet"
    remat: str = ""
    dtype: Any = jnp.float32

    inputs = ("image",)
    axes = (("/(shortcut_conv1|conv2)/kernel$", residual.GROUPED), *residual.GROUPED_AXES)

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.depths) + 1 or min(self.channels) < 1:
            raise UserError(
                f"ShuffleNetV2's channels must be {len(self.depths) + 1} positive numbers, got {self.channels}. "
                "Give one for each entry of depths, and one for the last 1x1"
            )
        if any(channels % 2 for channels in self.channels[:-1]):
            raise UserError(f"ShuffleNetV2's channels must be even, got {self.channels}. A unit splits them in halves")
        check_least("ShuffleNetV2's depths", min(self.depths), 1)
        residual.check_form("ShuffleNetV2", self.form)
        check_remat(self.remat)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        conv = functools.partial(residual.conv, init=residual.torch_linear, dtype=self.dtype)
        size, stride = (3, 2) if self.form == "imagenet" else (1, 1)
        taps = {}
        x = conv(24, size, stride, name="stem_conv")(x)
        x = nn.relu(residual.norm(train, dtype=self.dtype, name="stem_norm")(x))
        if self.form == "imagenet":
            x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        taps["stem"] = x
        unit = rematerialize(SplitUnit, self.remat)
        for index, count in enumerate(self.depths):
            wide = functools.partial(unit, self.channels[index], dtype=self.dtype)
            x = residual.run_stage(x, taps, f"stage{index + 1}", wide, blocks=count, stride=2, train=train)
        if self.classes:
            x = conv(self.channels[-1], 1, name="final_conv")(x)
            x = taps["final"] = nn.relu(residual.norm(train, dtype=self.dtype, name="final_norm")(x))
        pooled = taps["pooled"] = residual.pool(x)
        return Output(residual.classifier(self.classes)(pooled), taps)
