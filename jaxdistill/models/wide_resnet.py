"""Wide residual networks.

Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016, https://arxiv.org/abs/1605.07146. The architecture is
the authors' and RepDistiller's `models/wrn.py`: pre-activation blocks, the shortcut that changes the shape a
bare 1x1 convolution of the activated input, dropout between the two convolutions.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.models import residual


class PreActivation(nn.Module):
    """norm, ReLU, 3x3, norm, ReLU, 3x3, plus the shortcut."""

    features: int
    stride: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = nn.relu(residual.norm(train, dtype=self.dtype, name="norm1")(x))
        if x.shape[-1] != self.features:
            x = residual.convolution(self.features, 1, self.stride, dtype=self.dtype, name="shortcut")(y)
        y = residual.convolution(self.features, 3, self.stride, dtype=self.dtype, name="conv1")(y)
        y = nn.relu(residual.norm(train, dtype=self.dtype, name="norm2")(y))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return x + residual.convolution(self.features, 3, dtype=self.dtype, name="conv2")(y)


class WideResNet(nn.Module):
    """WRN-`depth`-`width`.

    Taps, with shapes for WRN-16-2 and 32 x 32 images: `stem` `[batch, 32, 32, 16]`; `stage1` `[batch, 32, 32, 32]`,
    `stage2` `[batch, 16, 16, 64]`, `stage3` `[batch, 8, 8, 128]`. In a pre-activation network a stage ends with a
    sum, without ReLU: `stage1` and `stage2` are that sum's ReLU, `stage3` the ReLU after the last norm, and
    `stage1/preact` .. what the ReLU was taken of; `stage1/block0` .. are the sums; `pooled` `[batch, 128]`.

    Fields:
        depth: 6 n + 4: 16, 28, 40.
    """

    classes: int
    depth: int = 16
    width: int = 2
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        blocks, rest = divmod(self.depth - 4, 6)
        if rest or blocks < 1:
            near = 6 * max(1, blocks) + 4
            raise UserError(f"wide_resnet has no depth {self.depth}; it is 6 n + 4, such as {near} or {near + 6}")
        taps = {}
        x = taps["stem"] = residual.convolution(16, 3, dtype=self.dtype, name="stem")(x.astype(self.dtype))
        for number, channels in enumerate((16, 32, 64), 1):
            for index in range(blocks):
                stride = 2 if index == 0 and number > 1 else 1
                block = PreActivation(
                    channels * self.width, stride, self.dropout, self.dtype, name=f"stage{number}_block{index}"
                )
                x = taps[f"stage{number}/block{index}"] = block(x, train)
            before = x if number < 3 else residual.norm(train, dtype=self.dtype, name="norm")(x)
            taps[f"stage{number}/preact"], taps[f"stage{number}"] = before, nn.relu(before)
        logits = residual.classify(taps["stage3"], self.classes, dtype=self.dtype, taps=taps)
        return Output(logits, taps)
