"""Parts of convolutional networks: layers as PyTorch computes them, residual blocks, and stages of blocks.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385. Paddings,
constants and the names of the layers follow torchvision, so that weights trained there give equal outputs here.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.errors import UserError, unknown
from jaxdistill.models.normalization import BatchNorm

Taps = dict[str, Array]
Map = Float[Array, "batch _ _ _"]

GROUPED_AXES = (
    ("/head/kernel$", ("inputs", "outputs")),
    ("/kernel$", ("height", "width", "inputs", "outputs")),
)
"""Names of the dimensions of kernels that are not grouped, after those that are (`train/partitioning.py`)."""

GROUPED = ("grouped",) * 4

# He et al., "Delving Deep into Rectifiers", 2015: keeps the variance of gradients; torchvision's choice.
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# What `torch.nn.Linear` draws: uniform within 1 / sqrt(fan_in).
torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv(
    channels: int,
    size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = False,
    init: nn.initializers.Initializer = kaiming_fan_out,
    dtype: Any,
    name: str,
) -> nn.Conv:
    """Returns a `size` x `size` convolution of places `dilation` apart, padded by `dilation * (size // 2)` everywhere.

    This is PyTorch's padding; for a stride of 2 and an even input XLA's "SAME" pads only below and right.
    """
    pad = dilation * (size // 2)
    return nn.Conv(
        channels,
        kernel_size=(size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        kernel_dilation=(dilation, dilation),
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=init,
        dtype=dtype,
        param_dtype=jnp.float32,
        name=name,
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def relu(x: Map, dtype: Any) -> Map:
    """Returns `max(x, 0)` in a dtype.

    Rounding and ReLU change places without a difference, and a TPU v5e, which computes in float32, rounds each number
    in several operations: once after the ReLU is half of a pass over a map.
    """
    return jnp.maximum(x, 0).astype(dtype)


@relu.defjvp
def _derive_relu(dtype: Any, primals: tuple[Map], tangents: tuple[Map]) -> tuple[Map, Map]:
    (x,), (tangent,) = primals, tangents
    y = relu(x, dtype)
    # By the sign of the output, which the next layer keeps, and not of the input, which need not be kept.
    return y, jnp.where(y > 0, tangent, jnp.zeros_like(tangent)).astype(dtype)


def pool_activated(norm: BatchNorm, x: Map, train: bool, dtype: Any) -> Map:
    """Returns the normalised map after ReLU and a max-pooling of 3 x 3 with stride 2.

    In training, a fourth of the numbers is normalised, those that are kept; in inference the normalisation is a part
    of the convolution before.
    """
    pool = functools.partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    return relu(norm(x, pool=pool), dtype) if train else pool(relu(norm(x), dtype))


def norm(train: bool, *, epsilon: float = 1e-5, dtype: Any, name: str) -> BatchNorm:
    """Returns a batch normalisation with statistics in float32: of the batch if `train`, else the running ones.

    The variance is that of centred numbers: the mean of squares less the square of the mean cancels where the mean is
    large. Each update keeps 0.9 of the running ones (PyTorch: momentum 0.1). One difference: PyTorch's running variance
    is the unbiased one, `n / (n - 1)` times ours, with n = batch * height * width. Without a dtype the output is in at
    least float32.
    """
    return BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=epsilon,
        dtype=dtype,
        param_dtype=jnp.float32,
        name=name,
    )


def pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels"]:
    """Averages over space in float32."""
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def classifier(
    classes: int, init: nn.initializers.Initializer = torch_linear, name: str = "head"
) -> nn.Dense | Callable[[Float[Array, "batch width"]], Float[Array, "batch 0"]]:
    """Returns the last layer; in float32, since bfloat16 would round the logits to 8 bits.

    With 0 classes it has no params: the model is an encoder, whose taps are its output.
    """
    if not classes:
        return lambda x: jnp.zeros((x.shape[0], 0), jnp.float32)
    return nn.Dense(classes, kernel_init=init, dtype=jnp.float32, name=name)


def has_layer(module: nn.Module, name: str, changes_shape: bool) -> bool:
    """Returns whether a block has a layer by its params, of which fewer channels may be stored than it declares.

    Args:
        module: the block.
        name: the layer's.
        changes_shape: whether it is created at initialisation.
    """
    return changes_shape if module.is_initializing() else module.has_variable("params", name)


def check_form(model: str, form: str) -> None:
    """Raises `UserError` for a form that is neither that of ImageNet nor that of CIFAR."""
    if form not in ("imagenet", "cifar"):
        raise unknown(f"{model}'s form", form, ("imagenet", "cifar"), "an existing form")


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


class Block(nn.Module):
    """Fields of residual blocks, and the shortcut.

    Attributes:
        channels: of the first convolution.
        stride: of the block.
        dilation: distance of the places that a 3x3 reads.
        bias: whether convolutions have biases.
        epsilon: of the normalisations.
    """

    channels: int
    stride: int = 1
    dilation: int = 1
    bias: bool = False
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    def conv(self, channels: int, size: int, stride: int = 1, *, groups: int = 1, name: str) -> nn.Conv:
        """Returns a convolution of the block."""
        dilation = self.dilation if size > 1 else 1
        layers = {"dilation": dilation, "bias": self.bias, "dtype": self.dtype}
        return conv(channels, size, stride, groups=groups, **layers, name=name)

    def norm(self, train: bool, name: str) -> BatchNorm:
        """Returns a normalisation of the block, whose output is in at least float32, for `relu` or a sum."""
        return norm(train, epsilon=self.epsilon, dtype=None, name=name)

    def shortcut(self, x: Map, channels: int, train: bool) -> Map:
        """Returns the shortcut: `x`, or its 1x1 convolution and normalisation if the shape changes."""
        if not has_layer(self, "shortcut_conv", self.stride != 1 or x.shape[-1] != channels):
            return x
        x = self.conv(channels, 1, self.stride, name="shortcut_conv")(x)
        return self.norm(train, "shortcut_norm")(x)


class BasicBlock(Block):
    """Two 3x3 convolutions beside a shortcut; returns their sum, `channels` wide, before the last ReLU."""

    expansion = 1

    @nn.compact
    def __call__(self, x: Map, train: bool = False) -> Map:
        shortcut = self.shortcut(x, self.channels, train)
        x = self.conv(self.channels, 3, self.stride, name="conv1")(x)
        x = relu(self.norm(train, "norm1")(x), self.dtype)
        x = self.conv(self.channels, 3, name="conv2")(x)
        return self.norm(train, "norm2")(x) + shortcut


class Bottleneck(Block):
    """Convolutions 1x1, 3x3, 1x1 beside a shortcut; returns their sum, 4 `channels` wide, before the last ReLU.

    Attributes:
        groups: of the 3x3, as in Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR
            2017, https://arxiv.org/abs/1611.05431.
        width_per_group: channels of a group of the 3x3 for every 64 `channels`.
        stride_first: whether the stride is in the first 1x1, as in the paper, instead of the 3x3 ("v1.5", torchvision).
    """

    groups: int = 1
    width_per_group: int = 64
    stride_first: bool = False

    expansion = 4

    @nn.compact
    def __call__(self, x: Map, train: bool = False) -> Map:
        first, second = (self.stride, 1) if self.stride_first else (1, self.stride)
        inner = int(self.channels * self.width_per_group / 64) * self.groups
        shortcut = self.shortcut(x, 4 * self.channels, train)
        x = self.conv(inner, 1, first, name="conv1")(x)
        x = relu(self.norm(train, "norm1")(x), self.dtype)
        x = self.conv(inner, 3, second, groups=self.groups, name="conv2")(x)
        x = relu(self.norm(train, "norm2")(x), self.dtype)
        x = self.conv(4 * self.channels, 1, name="conv3")(x)
        return self.norm(train, "norm3")(x) + shortcut


def run_stage(
    x: Map, taps: Taps, name: str, block: Callable[..., nn.Module], *, blocks: int, stride: int, train: bool
) -> Map:
    """Runs `blocks` of `block(stride=, name=)`, the first with `stride`, with a ReLU after each.

    Adds the taps `name/block0`.., `name/preact` (before the last ReLU) and `name` (after it), which it returns.
    """
    for index in range(blocks):
        preact = block(stride=stride if index == 0 else 1, name=f"{name}_block{index}")(x, train)
        x = taps[f"{name}/block{index}"] = relu(preact, x.dtype)
    taps[f"{name}/preact"] = preact.astype(x.dtype)
    taps[name] = x
    return x
