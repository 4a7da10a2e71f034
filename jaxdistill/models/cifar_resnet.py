"""The residual networks for images of 32 x 32: depth 8 to 110, and the x4 family of the CRD benchmark.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, https://arxiv.org/abs/1512.03385.
The architecture is that of RepDistiller's `models/resnet.py`: shortcuts that change the shape are 1x1
convolutions with batch normalisation (the paper pads with zeros), and the x4 networks have a stem of 32.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.models import residual


class CifarResNet(nn.Module):
    """ResNet-`depth`, its stages 16, 32 and 64 channels times `width`; `resnet8x4` is depth 8, width 4.

    Taps, with shapes for 32 x 32 images and width 1: `stem` `[batch, 32, 32, 16]`; `stage1` `[batch, 32, 32, 16]`,
    `stage2` `[batch, 16, 16, 32]`, `stage3` `[batch, 8, 8, 64]`, after the last ReLU; `stage1/preact` .., the same
    before it; `stage1/block0` .., the output of each block; `pooled` `[batch, 64]`.

    Fields:
        depth: 6 n + 2: 8, 14, 20, 32, 44, 56, 110.
        stem: channels of the first convolution; 0 for the benchmark's choice, 16 at width 1 and 32 beyond.
    """

    classes: int
    depth: int = 20
    width: int = 1
    stem: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        blocks, rest = divmod(self.depth - 2, 6)
        if rest or blocks < 1:
            near = 6 * max(1, blocks) + 2
            raise UserError(f"cifar_resnet has no depth {self.depth}; it is 6 n + 2, such as {near} or {near + 6}")
        taps, stem = {}, self.stem or (16 if self.width == 1 else 32)
        x = residual.convolution(stem, 3, dtype=self.dtype, name="stem")(x.astype(self.dtype))
        x = taps["stem"] = nn.relu(residual.norm(train, dtype=self.dtype, name="stem_norm")(x))
        widths = tuple(channels * self.width for channels in (16, 32, 64))
        x = residual.stages(x, residual.Basic, widths, (blocks,) * 3, train, dtype=self.dtype, taps=taps)
        return Output(residual.classify(x, self.classes, dtype=self.dtype, taps=taps), taps)
