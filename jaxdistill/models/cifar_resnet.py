"""Residual networks for CIFAR, as in the benchmarks of distillation."""

import functools
import types
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import check_least
from jaxdistill.models import residual
from jaxdistill.models.remat import check_remat, rematerialize


class CifarResNet(nn.Module):
    """ResNet-8 to -110 and the wider "x4" ones, for small images.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385, section
    4.2, as in the benchmark of Tian et al., "Contrastive Representation Distillation", ICLR 2020,
    https://arxiv.org/abs/1910.10699: equal to `models/resnet.py` of https://github.com/HobbitLong/RepDistiller, so
    that (depth, width) = (20, 1) is its resnet20 and (8, 4) its resnet8x4. If a stage changes the shape, the
    shortcut is a 1x1 convolution (the paper's option B; its CIFAR networks pad with zeros, option A). Pooling averages
    all remaining places, which for 32x32 images are 8x8.

    Taps, for x `[batch, 32, 32, 3]`, with w = width and n = (depth - 2) / 6 blocks in a stage:
        stem: `[batch, 32, 32, stem]`, after ReLU.
        stage1, stage2, stage3: `[batch, 32, 32, 16w]`, `[batch, 16, 16, 32w]`, `[batch, 8, 8, 64w]`, after ReLU.
        stage1/preact ..: the same before the last ReLU.
        stage1/block0 .. stage3/block{n-1}: each block's output, after ReLU; the last one is the stage.
        pooled: `[batch, 64w]`, float32.

    Attributes:
        classes: number of logits; 0 for an encoder.
        depth: 6n+2: 8, 14, 20, 32, 44, 56, 110.
        width: multiplies the 16, 32, 64 channels of the stages.
        stem: channels of the first convolution. 0 is the benchmark's rule: 16 at width 1, 32 at any other.
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only the
            results of its convolutions.
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
    # Three maps of 256 x 32 x 32 x 64 then stay beside the units, and no map is computed within the next convolution.
    tpu_options = types.MappingProxyType({"xla_tpu_scoped_vmem_limit_kib": "24576", "xla_tpu_dot_dot_fusion": "false"})

    def __post_init__(self) -> None:
        residual.blocks_per_stage("CifarResNet", self.depth, rest=2)
        check_least("width", self.width, 1)
        check_least("stem", self.stem, 0)
        check_remat(self.remat)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        blocks = residual.blocks_per_stage("CifarResNet", self.depth, rest=2)
        stem = self.stem or (16 if self.width == 1 else 32)
        taps = {}
        x = residual.conv(stem, 3, dtype=self.dtype, name="stem_conv")(x)
        x = residual.norm(train, dtype=None, name="stem_norm")(x)
        x = taps["stem"] = residual.relu(x, self.dtype)
        for number, channels, stride in ((1, 16, 1), (2, 32, 2), (3, 64, 2)):
            block = functools.partial(
                rematerialize(residual.BasicBlock, self.remat), channels * self.width, dtype=self.dtype
            )
            x = residual.run_stage(x, taps, f"stage{number}", block, blocks=blocks, stride=stride, train=train)
        pooled = taps["pooled"] = residual.pool(x)
        return Output(residual.classifier(self.classes)(pooled), taps)
