"""The residual networks of CIFAR and of the benchmarks of distillation on it."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.errors import check_least
from jaxdistill.models import residual
from jaxdistill.models.remat import check_remat, rematerialized


class CifarResNet(nn.Module):
    """ResNet-8 to -110 and the wider "x4" ones, for small images.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385, section
    4.2, as in the benchmark of Tian et al., "Contrastive Representation Distillation", ICLR 2020,
    https://arxiv.org/abs/1910.10699: equal to `models/resnet.py` of https://github.com/HobbitLong/RepDistiller, so
    that (depth, width) = (20, 1) is its resnet20 and (8, 4) its resnet8x4. Where a stage changes the shape, the
    shortcut is a 1x1 convolution (the paper's option B; its own CIFAR networks pad with zeros, option A). Pooling is
    over all that is left, which for 32x32 is their 8x8.

    Taps, for x `[batch, 32, 32, 3]`, with w = width and n = (depth - 2) / 6 blocks in a stage:
        stem: `[batch, 32, 32, stem]`, after ReLU.
        stage1, stage2, stage3: `[batch, 32, 32, 16w]`, `[batch, 16, 16, 32w]`, `[batch, 8, 8, 64w]`, after ReLU.
        stage1/preact ..: the same before that ReLU.
        stage1/block0 .. stage3/block{n-1}: what each block gives, after ReLU; the last of a stage is the stage.
        pooled: `[batch, 64w]`, float32.

    Attributes:
        classes: number of logits.
        depth: 6n+2: 8, 14, 20, 32, 44, 56, 110.
        width: multiplies the 16, 32, 64 channels of the stages.
        stem: channels of the first convolution. 0 is the benchmark's rule: 16 at width 1, 32 at any other.
        remat: "", "block" or "products": what a block keeps for the backward pass is all, its input, or the results of
            its convolutions.
        dtype: of the computation; params, statistics and the last layer are float32.

    Raises:
        UserError: on construction, if `depth` is not 6n+2.
    """

    classes: int
    depth: int = 20
    width: int = 1
    stem: int = 0
    remat: str = ""
    dtype: Any = jnp.float32

    inputs = ("image",)

    def __post_init__(self):
        residual.blocks_per_stage("CifarResNet", self.depth, rest=2)
        check_least("width", self.width, 1)
        check_least("stem", self.stem, 0)
        check_remat(self.remat)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        blocks = residual.blocks_per_stage("CifarResNet", self.depth, rest=2)
        stem = self.stem or (16 if self.width == 1 else 32)
        taps = {}
        x = residual.conv(stem, 3, dtype=self.dtype, name="stem_conv")(x)
        x = taps["stem"] = nn.relu(residual.norm(train, dtype=self.dtype, name="stem_norm")(x))
        for number, channels, stride in ((1, 16, 1), (2, 32, 2), (3, 64, 2)):
            block = functools.partial(
                rematerialized(residual.BasicBlock, self.remat), channels * self.width, dtype=self.dtype
            )
            x = residual.stage(x, taps, f"stage{number}", block, blocks, stride, train)
        pooled = taps["pooled"] = residual.pool(x)
        return Output(residual.classifier(self.classes)(pooled), taps)
