"""ShuffleNet V1: grouped 1x1 convolutions, whose groups exchange channels."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least, check_positive, unknown
from jaxdistill.models import residual
from jaxdistill.models.remat import check_remat, rematerialize

CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""groups -> channels of the first stage at width 1: Zhang et al., table 1. Each further stage has twice as many."""


def shuffle(x: Float[Array, "*places channels"], groups: int) -> Float[Array, "*places channels"]:
    """Moves channel j of group i to place `groups * j + i`, so that the next groups read all of these."""
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    return jnp.swapaxes(grouped, -1, -2).reshape(x.shape)


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, 3x3 by channel, grouped 1x1, beside a shortcut; returns the result before the last ReLU.

    With stride 2, the shortcut is a mean of 3x3 places and is concatenated, else it is added.

    Attributes:
        channels: of the output.
        middle: channels of the 3x3.
        groups: of the last 1x1.
        first_groups: of the first 1x1, and of the shuffle.
    """

    channels: int
    middle: int
    groups: int
    first_groups: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch _ _ {self.channels}"]:
        conv = functools.partial(residual.conv, init=residual.torch_linear, dtype=self.dtype)
        shortcut, width = x, self.channels
        if self.stride == 2:
            shortcut = nn.avg_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
            width -= x.shape[-1]
        x = conv(self.middle, 1, groups=self.first_groups, name="conv1")(x)
        x = nn.relu(residual.norm(train, dtype=self.dtype, name="norm1")(x))
        x = conv(self.middle, 3, self.stride, groups=self.middle, name="conv2")(shuffle(x, self.first_groups))
        x = nn.relu(residual.norm(train, dtype=self.dtype, name="norm2")(x))
        x = conv(width, 1, groups=self.groups, name="conv3")(x)
        x = residual.norm(train, dtype=self.dtype, name="norm3")(x)
        return jnp.concatenate([x, shortcut], -1) if self.stride == 2 else x + shortcut


class ShuffleNetV1(nn.Module):
    """ShuffleNet of any width and 1, 2, 3, 4 or 8 groups.

    Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices", CVPR 2018,
    https://arxiv.org/abs/1707.01083. The form "cifar" equals `models/ShuffleNetv1.py` of
    https://github.com/HobbitLong/RepDistiller: a 1x1 stem without stride and without pooling; and the 3x3 of a
    stage's first unit has a quarter of the channels that the unit adds, in the paper a quarter of all that it returns.
    The first 1x1 of the first unit has no groups and no shuffle.

    Taps, for x `[batch, 224, 224, 3]` and c = `CHANNELS[groups] * width`:
        stem: `[batch, 56, 56, 24 * width]`, after ReLU and max-pooling.
        stage1, stage2, stage3: `[batch, 28, 28, c]`, `[batch, 14, 14, 2c]`, `[batch, 7, 7, 4c]`, after ReLU; the
            paper's stages 2 to 4. In the form "cifar" for 32x32: 16, 8 and 4 places a side, and the stem 32.
        stage1/preact ..: the same before the last ReLU.
        stage1/block0 ..: each unit's output, after ReLU; the last one is the stage.
        pooled: `[batch, 4c]`, float32.

    Attributes:
        classes: number of logits; 0 for an encoder.
        width: multiplies the channels.
        groups: of the 1x1 convolutions.
        depths: numbers of units of the stages.
        form: "imagenet" or "cifar".
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only the
            results of its convolutions.
        dtype: of the computation; params, statistics and the last layer are float32.

    Raises:
        UserError: on construction, for unknown groups and forms, and channels that the groups do not divide.
    """

    classes: int = 1000
    width: float = 1.0
    groups: int = 3
    depths: tuple[int, ...] = (4, 8, 4)
    form: str = "imagenet"
    remat: str = ""
    dtype: Any = jnp.float32

    inputs = ("image",)
    axes = (("/conv[123]/kernel$", residual.GROUPED), *residual.GROUPED_AXES)

    def __post_init__(self) -> None:
        if self.groups not in CHANNELS:
            raise unknown("ShuffleNetV1's groups", self.groups, CHANNELS, "an existing number of groups")
        check_positive("ShuffleNetV1's width", self.width)
        check_least("ShuffleNetV1's number of depths", len(self.depths), 1)
        check_least("ShuffleNetV1's depths", min(self.depths), 1)
        residual.check_form("ShuffleNetV1", self.form)
        check_remat(self.remat)
        stem, wide = int(24 * self.width), int(CHANNELS[self.groups] * self.width)
        grouped = [wide - stem, wide // 4, self._middle(stem, wide, 2)]
        if stem < 1 or any(channels % self.groups for channels in grouped):
            raise UserError(
                f"ShuffleNetV1's width must give channels that {self.groups} groups divide, got {self.width} "
                f"(channels {grouped}). Use a multiple of 0.25 and 3 groups"
            )
        super().__post_init__()

    def _middle(self, before: int, channels: int, stride: int) -> int:
        """Returns the channels of a unit's 3x3, for `before` channels of its input."""
        return (channels - before) // 4 if self.form == "cifar" and stride == 2 else channels // 4

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        size, stride = (3, 2) if self.form == "imagenet" else (1, 1)
        taps = {}
        stem = functools.partial(residual.conv, int(24 * self.width), size, stride, init=residual.torch_linear)
        x = stem(dtype=self.dtype, name="stem_conv")(x)
        x = nn.relu(residual.norm(train, dtype=self.dtype, name="stem_norm")(x))
        if self.form == "imagenet":
            x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        taps["stem"] = x
        unit = functools.partial(rematerialize(ShuffleUnit, self.remat), groups=self.groups, dtype=self.dtype)
        for index, count in enumerate(self.depths):
            before, channels = x.shape[-1], int(CHANNELS[self.groups] * self.width) * 2**index

            def make_unit(stride: int, name: str, before: int = before, channels: int = channels) -> nn.Module:
                first = 1 if name == "stage1_block0" else self.groups
                middle = self._middle(before, channels, stride)
                return unit(channels, middle, first_groups=first, stride=stride, name=name)

            x = residual.run_stage(x, taps, f"stage{index + 1}", make_unit, blocks=count, stride=2, train=train)
        pooled = taps["pooled"] = residual.pool(x)
        return Output(residual.classifier(self.classes)(pooled), taps)
