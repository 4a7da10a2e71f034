"""VGG networks: stacks of 3x3 convolutions."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_fraction, check_least, unknown
from jaxdistill.models import residual

STAGES = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""depth -> convolutions in each stage: Simonyan & Zisserman, table 1, columns A, B, D and E; 8 is RepDistiller's."""

HIDDEN_SIDE = 7
"""Side of the maps that the first hidden layer reads; a 224x224 image has just that."""

normal = nn.initializers.normal(0.01)


class VGG(nn.Module):
    """VGG-8 to -19, with and without batch normalisation.

    Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
    https://arxiv.org/abs/1409.1556. The form "imagenet" equals torchvision's `vgg11` .. `vgg19` and `vgg11_bn` ..
    `vgg19_bn`: maps of another side than 7 are averaged to 7x7 by torch's adaptive pooling. The form "cifar" equals
    `models/vgg.py` of https://github.com/HobbitLong/RepDistiller: no pooling after the fourth stage for images below
    64x64, and the mean of the last stage instead of hidden layers.

    Taps, for x `[batch, 224, 224, 3]`, with c = `channels`:
        stage1 .. stage5: `[batch, 224, 224, c1]`, `[batch, 112, 112, c2]`, `[batch, 56, 56, c3]`,
            `[batch, 28, 28, c4]`, `[batch, 14, 14, c5]`, after ReLU and before the pooling; in the form "cifar" for
            32x32: 32, 16, 8, 4 and 4 places a side.
        stage1/preact ..: the same before the last ReLU.
        stage1/block0 ..: the output of each convolution, after ReLU; the last one is the stage.
        hidden1: `[batch, hidden]`, the first hidden layer after ReLU (form "imagenet").
        pooled: `[batch, hidden]`, float32, the second hidden layer after ReLU; `[batch, c5]`, the mean of stage5, in
            the form "cifar".

    Attributes:
        classes: number of logits; 0 for an encoder, without the hidden layers.
        depth: 8, 11, 13, 16 or 19.
        norm: whether each convolution is followed by batch normalisation.
        channels: of the stages.
        hidden: width of the two hidden layers of the form "imagenet".
        form: "imagenet" or "cifar".
        dropout: rate after each hidden layer (torchvision: 0.5).
        dtype: of the computation; params, statistics and the last layer are float32.

    Raises:
        UserError: on construction, if there is no such depth or form; and for images smaller than the poolings need.
    """

    classes: int = 1000
    depth: int = 16
    norm: bool = False
    channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    form: str = "imagenet"
    dropout: float = 0.0
    dtype: Any = jnp.float32

    inputs = ("image",)

    def __post_init__(self) -> None:
        if self.depth not in STAGES:
            raise unknown("VGG's depth", self.depth, STAGES, "an existing depth")
        if len(self.channels) != 5 or min(self.channels) < 1:
            raise UserError(f"VGG's channels must be 5 positive numbers, got {self.channels}. Give one for each stage")
        check_least("VGG's hidden", self.hidden, 1)
        check_fraction("VGG's dropout", self.dropout)
        residual.check_form("VGG", self.form)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        least, side = (8 if self.form == "cifar" else 32), min(x.shape[1:3])
        if side < least:
            raise UserError(f"VGG's images must be at least {least} pixels a side, got {side}. Resize them")
        # RepDistiller's rule: the maps of small images stay 4x4.
        pools = 5 if self.form == "imagenet" else 4 if side >= 64 else 3
        taps = {}
        for index in range(len(self.channels)):
            x = self._run_stage(x, taps, index, train=train)
            # The form "cifar" averages the last stage.
            if index < pools:
                x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        if self.form == "imagenet" and self.classes:
            x = self._run_hidden(x, taps, train)
        else:
            x = taps["pooled"] = residual.pool(x)
        return Output(residual.classifier(self.classes, normal)(x), taps)

    def _run_stage(self, x: Array, taps: residual.Taps, index: int, *, train: bool) -> Array:
        """Returns `x` after the convolutions of a stage, and adds its taps."""
        name = f"stage{index + 1}"
        preact = x
        for number in range(STAGES[self.depth][index]):
            # Convolutions have biases with a normalisation too, as in torchvision.
            preact = residual.conv(self.channels[index], 3, bias=True, dtype=self.dtype, name=f"{name}_conv{number}")(x)
            if self.norm:
                preact = residual.norm(train, dtype=self.dtype, name=f"{name}_norm{number}")(preact)
            x = taps[f"{name}/block{number}"] = nn.relu(preact)
        taps[f"{name}/preact"] = preact
        taps[name] = x
        return x

    def _run_hidden(self, x: Array, taps: residual.Taps, train: bool) -> Array:
        """Returns the second hidden layer, in float32, after dropout."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = average_to(x, HIDDEN_SIDE)
        # A dense layer of all places, as a convolution: its kernel has the places as axes.
        layer = nn.Conv(
            self.hidden,
            (HIDDEN_SIDE, HIDDEN_SIDE),
            padding="VALID",
            kernel_init=normal,
            dtype=self.dtype,
            name="hidden1",
        )
        x = taps["hidden1"] = nn.relu(layer(x))[:, 0, 0]
        x = nn.Dense(self.hidden, kernel_init=normal, dtype=self.dtype, name="hidden2")(drop(x))
        x = taps["pooled"] = nn.relu(x).astype(jnp.float32)
        return drop(x)


def average_to(x: Float[Array, "batch height width channels"], side: int) -> Float[Array, "batch _ _ channels"]:
    """Averages maps to `side` x `side`, as `torch.nn.AdaptiveAvgPool2d` does.

    Output i is the mean of inputs `floor(i n / side)` up to `ceil((i + 1) n / side)` of n, along each axis.
    """
    for axis in (1, 2):
        count = x.shape[axis]
        if count != side:
            weights = np.zeros((side, count), np.float32)
            for index in range(side):
                start, end = index * count // side, -(-(index + 1) * count // side)
                weights[index, start:end] = 1 / (end - start)
            x = jnp.moveaxis(jnp.tensordot(x, weights.astype(x.dtype), ((axis,), (1,))), -1, axis)
    return x
