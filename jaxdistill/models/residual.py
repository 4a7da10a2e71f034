"""Parts of residual networks: layers as PyTorch computes them, blocks, and stages of blocks.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385. Paddings,
constants and the names of the layers follow torchvision, so that weights trained there give equal outputs here.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.errors import UserError

Taps = dict[str, Array]
Map = Float[Array, "batch _ _ _"]

# He et al., "Delving Deep into Rectifiers", 2015: keeps the variance of gradients; torchvision's choice.
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# What `torch.nn.Linear` draws: uniform within 1 / sqrt(fan_in).
torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv(channels: int, size: int, stride: int = 1, *, dtype: Any, name: str) -> nn.Conv:
    """Returns a `size` x `size` convolution without bias, padded by `size // 2` on every side.

    This is PyTorch's padding; for a stride of 2 and an even input XLA's "SAME" pads only below and right.
    """
    pad = size // 2
    return nn.Conv(
        channels,
        kernel_size=(size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        kernel_init=kaiming_fan_out,
        dtype=dtype,
        param_dtype=jnp.float32,
        name=name,
    )


def norm(train: bool, *, dtype: Any, name: str) -> nn.BatchNorm:
    """Returns a batch normalisation with statistics in float32: of the batch if `train`, else the running ones.

    The variance is that of the centred numbers, in two passes: the mean of squares less the square of the mean cancels
    where the mean is large. Each update keeps 0.9 of the running ones (PyTorch: momentum 0.1). One difference:
    PyTorch's running variance is the unbiased one, `n / (n - 1)` times ours, with n = batch * height * width.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        use_fast_variance=False,
        dtype=dtype,
        param_dtype=jnp.float32,
        name=name,
    )


def pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels"]:
    """Averages over space in float32."""
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def classifier(classes: int) -> nn.Dense:
    """Returns the last layer, named `head`; in float32, since bfloat16 would round the logits to 8 bits."""
    return nn.Dense(classes, kernel_init=torch_linear, dtype=jnp.float32, name="head")


def blocks_per_stage(model: str, depth: int, rest: int) -> int:
    """Returns n for `depth = 6 n + rest`: three stages of n blocks of two layers, and `rest` further layers.

    Raises:
        UserError: if there is no such n > 0; the message names the nearest depths.
    """
    blocks, over = divmod(depth - rest, 6)
    if over or blocks < 1:
        near = sorted({6 * max(n, 1) + rest for n in (blocks, blocks + 1)})
        raise UserError(f"{model}: depth must be 6n+{rest}, got {depth}; use {' or '.join(map(str, near))}")
    return blocks


def shortcut_of(x: Map, channels: int, stride: int, *, train: bool, dtype: Any) -> Map:
    """Returns the shortcut: `x`, or its 1x1 convolution and normalisation if the shape changes."""
    if stride == 1 and x.shape[-1] == channels:
        return x
    x = conv(channels, 1, stride, dtype=dtype, name="shortcut_conv")(x)
    return norm(train, dtype=dtype, name="shortcut_norm")(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; returns their sum, `channels` wide, before the last ReLU."""

    channels: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Map, train: bool = False) -> Map:
        shortcut = shortcut_of(x, self.channels, self.stride, train=train, dtype=self.dtype)
        x = conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(norm(train, dtype=self.dtype, name="norm1")(x))
        x = conv(self.channels, 3, dtype=self.dtype, name="conv2")(x)
        return norm(train, dtype=self.dtype, name="norm2")(x) + shortcut


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3, 1x1 beside a shortcut; returns their sum, 4 `channels` wide, before the last ReLU.

    The stride is in the 3x3 ("v1.5", as in torchvision); in the paper it is in the first 1x1.
    """

    channels: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Map, train: bool = False) -> Map:
        shortcut = shortcut_of(x, 4 * self.channels, self.stride, train=train, dtype=self.dtype)
        x = conv(self.channels, 1, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(norm(train, dtype=self.dtype, name="norm1")(x))
        x = conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv2")(x)
        x = nn.relu(norm(train, dtype=self.dtype, name="norm2")(x))
        x = conv(4 * self.channels, 1, dtype=self.dtype, name="conv3")(x)
        return norm(train, dtype=self.dtype, name="norm3")(x) + shortcut


def run_stage(
    x: Map, taps: Taps, name: str, block: Callable[..., nn.Module], *, blocks: int, stride: int, train: bool
) -> Map:
    """Runs `blocks` of `block(stride=, name=)`, the first with `stride`, with a ReLU after each.

    Adds the taps `name/block0`.., `name/preact` (before the last ReLU) and `name` (after it), which it returns.
    """
    for index in range(blocks):
        preact = block(stride=stride if index == 0 else 1, name=f"{name}_block{index}")(x, train)
        x = taps[f"{name}/block{index}"] = nn.relu(preact)
    taps[f"{name}/preact"] = preact
    taps[name] = x
    return x
