"""What residual networks are built of: convolutions padded as PyTorch pads, batch normalisation, the two blocks.

XLA's "SAME" pads a strided convolution on the other side than PyTorch does; explicit padding makes published
weights fit. Convolutions start from He's normal initialisation over the fan out, as the published code does.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def convolution(features: int, kernel: int, stride: int = 1, *, dtype: Any, name: str) -> nn.Conv:
    """A convolution without bias, padded by half the kernel on each side."""
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=((kernel // 2, kernel // 2),) * 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal,
        name=name,
    )


def norm(train: bool, *, dtype: Any, name: str) -> nn.BatchNorm:
    """Batch normalisation with PyTorch's constants: statistics move by a tenth, epsilon 1e-5."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name)


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut; returns the sum before its ReLU."""

    features: int
    stride: int
    dtype: Any

    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = convolution(self.features, 3, self.stride, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(norm(train, dtype=self.dtype, name="norm1")(y))
        y = convolution(self.features, 3, dtype=self.dtype, name="conv2")(y)
        return norm(train, dtype=self.dtype, name="norm2")(y) + _shortcut(self, x, y.shape[-1], train)


class Bottleneck(nn.Module):
    """1x1, 3x3 (which strides), 1x1 to four times the features; returns the sum before its ReLU."""

    features: int
    stride: int
    dtype: Any

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = convolution(self.features, 1, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(norm(train, dtype=self.dtype, name="norm1")(y))
        y = convolution(self.features, 3, self.stride, dtype=self.dtype, name="conv2")(y)
        y = nn.relu(norm(train, dtype=self.dtype, name="norm2")(y))
        y = convolution(4 * self.features, 1, dtype=self.dtype, name="conv3")(y)
        return norm(train, dtype=self.dtype, name="norm3")(y) + _shortcut(self, x, y.shape[-1], train)


def _shortcut(block: Basic | Bottleneck, x: jax.Array, features: int, train: bool) -> jax.Array:
    if block.stride == 1 and x.shape[-1] == features:
        return x
    x = convolution(features, 1, block.stride, dtype=block.dtype, name="shortcut")(x)
    return norm(train, dtype=block.dtype, name="shortcut_norm")(x)


def stages(
    x: jax.Array, block: Callable, widths: tuple[int, ...], depths: tuple[int, ...], train: bool, *, dtype: Any, taps: dict
) -> jax.Array:
    """Runs the stages of post-activation blocks, each but the first halving the image; fills in their taps."""
    for number, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
        for index in range(depth):
            stride = 2 if index == 0 and number > 1 else 1
            name = f"stage{number}_block{index}"
            before = taps[f"stage{number}/preact"] = block(width, stride, dtype, name=name)(x, train)
            x = taps[f"stage{number}/block{index}"] = nn.relu(before)
        taps[f"stage{number}"] = x
    return x


def classify(x: jax.Array, classes: int, *, dtype: Any, taps: dict) -> jax.Array:
    """Averages over the image and classifies; fills in `pooled`."""
    x = taps["pooled"] = jnp.mean(x, (1, 2))
    return nn.Dense(classes, dtype=dtype, name="classifier")(x)
