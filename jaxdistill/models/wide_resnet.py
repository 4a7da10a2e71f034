"""Wide residual networks: few layers, many channels, normalisation before the convolutions."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import check_fraction, check_least
from jaxdistill.models import residual
from jaxdistill.models.remat import check_remat, rematerialize


class PreactivationBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice, beside a shortcut; returns (sum, preact), no ReLU after the sum.

    `preact` is the output of the first BatchNorm, before its ReLU. If the number of channels changes, the shortcut is a
    1x1 convolution of the activated input.
    """

    channels: int
    stride: int = 1
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch _ _ {self.channels}"], Float[Array, "batch height width channels"]]:
        preact = residual.norm(train, dtype=self.dtype, name="norm1")(x)
        active = nn.relu(preact)
        if residual.has_layer(self, "shortcut_conv", x.shape[-1] != self.channels):
            x = residual.conv(self.channels, 1, self.stride, dtype=self.dtype, name="shortcut_conv")(active)
        inner = residual.conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv1")(active)
        inner = nn.relu(residual.norm(train, dtype=self.dtype, name="norm2")(inner))
        inner = nn.Dropout(self.dropout, deterministic=not train)(inner)
        return residual.conv(self.channels, 3, dtype=self.dtype, name="conv2")(inner) + x, preact


class WideResNet(nn.Module):
    """WRN-depth-width, for small images.

    Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016, https://arxiv.org/abs/1605.07146; equal to
    `models/wrn.py` of https://github.com/HobbitLong/RepDistiller, so that (depth, width) = (40, 2) is its wrn_40_2.
    Pooling averages all remaining places, which for 32x32 images are 8x8.

    Taps, for x `[batch, 32, 32, 3]`, with w = width and n = (depth - 4) / 6 blocks in a stage. As in RepDistiller,
    stages are sums without activation, since no ReLU ends a stage of a pre-activation network;
    `nn.relu(stage1/preact)` is the activation to compare with other families' `stage1`.
        stem: `[batch, 32, 32, 16]`, after the first convolution.
        stage1, stage2, stage3: `[batch, 32, 32, 16w]`, `[batch, 16, 16, 32w]`, `[batch, 8, 8, 64w]`, the sums.
        stage1/preact ..: the same after the following BatchNorm (the first of the next stage, or the final one),
            before its ReLU.
        stage1/block0 .. stage3/block{n-1}: each block's sum; the last one is the stage.
        pooled: `[batch, 64w]`, of `nn.relu(stage3/preact)`, float32.

    Attributes:
        classes: number of logits; 0 for an encoder.
        depth: 6n+4: 10, 16, 22, 28, 40.
        width: multiplies the 16, 32, 64 channels of the stages.
        dropout: rate of dropout between the two convolutions of a block.
        remat: "", "block" or "products": a block keeps all values for the backward pass, only its input, or only the
            results of its convolutions.
        dtype: of the computation; params, statistics and the last layer are float32.

    Raises:
        UserError: on construction, if `depth` is not 6n+4.
    """

    classes: int
    depth: int = 16
    width: int = 2
    dropout: float = 0.0
    remat: str = ""
    dtype: Any = jnp.float32

    inputs = ("image",)
    stages_are_sums = True

    def __post_init__(self) -> None:
        residual.blocks_per_stage("WideResNet", self.depth, rest=4)
        check_least("width", self.width, 1)
        check_fraction("dropout", self.dropout)
        check_remat(self.remat)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        blocks = residual.blocks_per_stage("WideResNet", self.depth, rest=4)
        taps, name = {}, ""
        block_class = rematerialize(PreactivationBlock, self.remat)
        x = taps["stem"] = residual.conv(16, 3, dtype=self.dtype, name="stem_conv")(x)
        for number, channels, stride in ((1, 16, 1), (2, 32, 2), (3, 64, 2)):
            before, name = name, f"stage{number}"
            for index in range(blocks):
                block = functools.partial(block_class, channels * self.width, stride if index == 0 else 1)
                x, preact = block(self.dropout, self.dtype, name=f"{name}_block{index}")(x, train)
                taps[f"{name}/block{index}"] = x
                if index == 0 and before:
                    taps[f"{before}/preact"] = preact
            taps[name] = x
        preact = taps["stage3/preact"] = residual.norm(train, dtype=self.dtype, name="final_norm")(x)
        pooled = taps["pooled"] = residual.pool(nn.relu(preact))
        return Output(residual.classifier(self.classes)(pooled), taps)
