"""Residual networks for ImageNet."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import unknown
from jaxdistill.models import residual
from jaxdistill.models.remat import check_remat, rematerialize

STAGES = {
    18: (residual.BasicBlock, (2, 2, 2, 2)),
    34: (residual.BasicBlock, (3, 4, 6, 3)),
    50: (residual.Bottleneck, (3, 4, 6, 3)),
}
"""depth -> (block, blocks in each stage): He et al., table 1."""


class ResNet(nn.Module):
    """ResNet-18, -34 and -50, for images of about 224x224.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385; equal to
    torchvision's `resnet18`, `resnet34`, `resnet50` ("v1.5", with the stride in the 3x3 of the bottleneck):
    https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py.

    Taps, for x `[batch, 224, 224, 3]`, with e = 4 at depth 50 and 1 otherwise:
        stem: `[batch, 56, 56, 64]`, after ReLU and max-pooling: the input of stage1.
        stage1 .. stage4: `[batch, 56, 56, 64e]`, `[batch, 28, 28, 128e]`, `[batch, 14, 14, 256e]`,
            `[batch, 7, 7, 512e]`, after ReLU.
        stage1/preact ..: the same before the last ReLU.
        stage1/block0 ..: each block's output, after ReLU; the last one is the stage.
        pooled: `[batch, 512e]`, float32.

    Attributes:
        classes: number of logits.
        depth: 18, 34 or 50.
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only the
            results of its convolutions.
        dtype: of the computation; params, statistics and the last layer are float32.

    Raises:
        UserError: on construction, if there is no such depth.
    """

    classes: int = 1000
    depth: int = 18
    remat: str = ""
    dtype: Any = jnp.float32

    inputs = ("image",)

    def __post_init__(self) -> None:
        if self.depth not in STAGES:
            raise unknown("ResNet's depth", self.depth, STAGES, "an existing depth")
        check_remat(self.remat)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        block, blocks = STAGES[self.depth]
        taps = {}
        x = residual.conv(64, 7, stride=2, dtype=self.dtype, name="stem_conv")(x)
        x = nn.relu(residual.norm(train, dtype=self.dtype, name="stem_norm")(x))
        x = taps["stem"] = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for index, count in enumerate(blocks):
            wide = functools.partial(rematerialize(block, self.remat), 64 * 2**index, dtype=self.dtype)
            stride = 1 if index == 0 else 2
            x = residual.run_stage(x, taps, f"stage{index + 1}", wide, blocks=count, stride=stride, train=train)
        pooled = taps["pooled"] = residual.pool(x)
        return Output(residual.classifier(self.classes)(pooled), taps)
