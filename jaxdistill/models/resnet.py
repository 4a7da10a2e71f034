"""Residual networks for ImageNet."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least, check_positive, unknown
from jaxdistill.models import residual
from jaxdistill.models.remat import check_remat, rematerialize

STAGES = {
    18: (residual.BasicBlock, (2, 2, 2, 2)),
    34: (residual.BasicBlock, (3, 4, 6, 3)),
    50: (residual.Bottleneck, (3, 4, 6, 3)),
    101: (residual.Bottleneck, (3, 4, 23, 3)),
    152: (residual.Bottleneck, (3, 8, 36, 3)),
}
"""depth -> (block, blocks in each stage): He et al., table 1."""


class ResNet(nn.Module):
    """ResNet-18 to -152 and ResNeXt, for images of about 224x224.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385; Xie et al.,
    "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, https://arxiv.org/abs/1611.05431; equal
    to torchvision's `resnet18` .. `resnet152` ("v1.5", with the stride in the 3x3 of the bottleneck) and, by (depth,
    groups, width_per_group), `resnext50_32x4d` (50, 32, 4), `resnext101_32x8d` (101, 32, 8) and `wide_resnet50_2`
    (50, 1, 128): https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py. ResNets of Keras
    Applications have `stride_first`, `bias` and `epsilon=1.001e-5`.

    Taps, for x `[batch, 224, 224, 3]`, with w = `width` and e = 4 from depth 50 on and 1 below:
        stem: `[batch, 56, 56, w]`, after ReLU and max-pooling: the input of stage1.
        stage1 .. stage4: `[batch, 56, 56, we]`, `[batch, 28, 28, 2we]`, `[batch, 14, 14, 4we]`,
            `[batch, 7, 7, 8we]`, after ReLU.
        stage1/preact ..: the same before the last ReLU.
        stage1/block0 ..: each block's output, after ReLU; the last one is the stage.
        pooled: `[batch, 8we]`, float32.

    Attributes:
        classes: number of logits; 0 for an encoder.
        depth: 18, 34, 50, 101 or 152.
        width: channels of the stem, doubled by each stage after the first.
        depths: numbers of blocks of the stages, if not those of `depth`.
        groups: of the 3x3 of a bottleneck.
        width_per_group: channels of such a group for every 64 channels.
        output_stride: pixels of the input by one place of the last stage in the form "imagenet": 32, or 16 or 8 with
            dilated convolutions in the place of strides, as torchvision's `replace_stride_with_dilation`.
        form: "imagenet", or "cifar": a 3x3 stem without stride and without pooling, as in `models/resnetv2.py` of
            https://github.com/HobbitLong/RepDistiller; stages of 32x32 images have 32, 16, 8 and 4 places a side.
        stride_first: whether a bottleneck has its stride in the first 1x1, as in the paper, instead of the 3x3.
        bias: whether convolutions have biases.
        epsilon: of the normalisations.
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only the
            results of its convolutions.
        dtype: of the computation; params, statistics and the last layer are float32.

    Raises:
        UserError: on construction, if there is no such depth or form, or fields of bottlenecks are set without them.
    """

    classes: int = 1000
    depth: int = 18
    width: int = 64
    depths: tuple[int, ...] = ()
    groups: int = 1
    width_per_group: int = 64
    output_stride: int = 32
    form: str = "imagenet"
    stride_first: bool = False
    bias: bool = False
    epsilon: float = 1e-5
    remat: str = ""
    dtype: Any = jnp.float32

    inputs = ("image",)

    @property
    def axes(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The names of the dimensions of kernels, if some are grouped."""
        return (("/conv2/kernel$", residual.GROUPED), *residual.GROUPED_AXES) if self.groups > 1 else ()

    def __post_init__(self) -> None:
        if self.depth not in STAGES:
            raise unknown("ResNet's depth", self.depth, STAGES, "an existing depth")
        for name in ("width", "groups", "width_per_group"):
            check_least(f"ResNet's {name}", getattr(self, name), 1)
        for count in self.depths:
            check_least("ResNet's depths", count, 1)
        if STAGES[self.depth][0] is residual.BasicBlock and self._bottleneck_fields():
            raise UserError(
                f"ResNet's groups, width_per_group and stride_first must be 1, 64 and False at depth {self.depth}, "
                f"got {self.groups}, {self.width_per_group} and {self.stride_first}. Use them from depth 50 on"
            )
        check_positive("ResNet's epsilon", self.epsilon)
        if self.output_stride not in (8, 16, 32):
            raise UserError(f"ResNet's output_stride must be 8, 16 or 32, got {self.output_stride}")
        residual.check_form("ResNet", self.form)
        check_remat(self.remat)
        super().__post_init__()

    def _bottleneck_fields(self) -> dict[str, int | bool]:
        """Returns the fields of bottlenecks that are not those of a plain one."""
        plain = {"groups": 1, "width_per_group": 64, "stride_first": False}
        return {name: getattr(self, name) for name, value in plain.items() if getattr(self, name) != value}

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        block, blocks = STAGES[self.depth]
        layers = {"bias": self.bias, "dtype": self.dtype}
        size, stride = (7, 2) if self.form == "imagenet" else (3, 1)
        taps = {}
        x = residual.conv(self.width, size, stride, **layers, name="stem_conv")(x)
        norm = residual.norm(train, epsilon=self.epsilon, dtype=None, name="stem_norm")
        is_pooled = self.form == "imagenet"
        x = residual.pool_activated(norm, x, train, self.dtype) if is_pooled else residual.relu(norm(x), self.dtype)
        taps["stem"] = x
        fields = layers | self._bottleneck_fields() | {"epsilon": self.epsilon}
        dilation = 1
        for index, count in enumerate(self.depths or blocks):
            stride, before = 1 if index == 0 else 2, dilation
            if 4 * 2**index > self.output_stride:
                stride, dilation = 1, 2 * dilation
            wide = functools.partial(rematerialize(block, self.remat), self.width * 2**index, **fields)

            def make_block(stride: int, name: str, wide: Any = wide, rates: tuple = (before, dilation)) -> nn.Module:
                # The first block of a stage has the dilation of the stage before, as in torchvision.
                return wide(stride=stride, dilation=rates[0 if name.endswith("block0") else 1], name=name)

            x = residual.run_stage(x, taps, f"stage{index + 1}", make_block, blocks=count, stride=stride, train=train)
        pooled = taps["pooled"] = residual.pool(x)
        return Output(residual.classifier(self.classes)(pooled), taps)
