"""The residual networks for ImageNet: ResNet-18, -34, -50.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385. The
architecture is torchvision's ("v1.5"): the 3x3 convolution of a bottleneck strides, not the first 1x1.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.models import residual

DEPTHS = {
    18: (residual.Basic, (2, 2, 2, 2)),
    34: (residual.Basic, (3, 4, 6, 3)),
    50: (residual.Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """ResNet-`depth`.

    Taps, with shapes for ResNet-50 and 224 x 224 images: `stem` `[batch, 56, 56, 64]` after pooling; `stage1`
    `[batch, 56, 56, 256]`, `stage2` `[batch, 28, 28, 512]`, `stage3` `[batch, 14, 14, 1024]`, `stage4`
    `[batch, 7, 7, 2048]`, after the last ReLU (a quarter of the channels for 18 and 34); `stage1/preact` .., the
    same before it; `stage1/block0` .., the output of each block; `pooled` `[batch, 2048]`.
    """

    classes: int
    depth: int = 50
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        if self.depth not in DEPTHS:
            raise UserError(f"resnet has no depth {self.depth}; there are {sorted(DEPTHS)}")
        taps, (block, depths) = {}, DEPTHS[self.depth]
        x = residual.convolution(64, 7, 2, dtype=self.dtype, name="stem")(x.astype(self.dtype))
        x = nn.relu(residual.norm(train, dtype=self.dtype, name="stem_norm")(x))
        x = taps["stem"] = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        x = residual.stages(x, block, (64, 128, 256, 512), depths, train, dtype=self.dtype, taps=taps)
        return Output(residual.classify(x, self.classes, dtype=self.dtype, taps=taps), taps)
