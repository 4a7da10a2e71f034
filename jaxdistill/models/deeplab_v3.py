"""DeepLabV3: segmentation by dilated convolutions of several rates."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import check_fraction, check_least
from jaxdistill.models import pyramid, residual


class DeepLabV3(nn.Module):
    """A class per pixel from the last map of an encoder, by atrous spatial pyramid pooling (ASPP).

    Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
    https://arxiv.org/abs/1706.05587; equal to torchvision's `deeplabv3_resnet50` and `_resnet101` with
    `encoder=dict(model="resnet", depth=50, output_stride=8)`, without their auxiliary classifier.

    Taps, for x `[batch, height, width, channels]` and a map of stride s:
        those of the encoder.
        aspp: `[batch, height / s, width / s, width]`, after the 1x1 that joins the branches, before dropout.
        decoded: `[batch, height / s, width / s, width]`, the input of the classifier.

    Attributes:
        classes: number of logits of a pixel.
        encoder: a section with `model` and its keys; a CifarResNet of depth 8 if not set.
        levels: the tap of the encoder; its last map if empty.
        rates: dilations of the 3x3 branches.
        width: channels of the branches and of the decoder.
        dropout: rate after the branches are joined.
        dtype: of the computation; params, statistics and the last layer are float32.
    """

    classes: int
    encoder: nn.Module | None = None
    levels: tuple[str, ...] = ()
    rates: tuple[int, ...] = (12, 24, 36)
    width: int = 256
    dropout: float = 0.5
    dtype: Any = jnp.float32

    inputs = ("image",)
    nested = ("encoder",)
    axes = property(pyramid.encoder_axes)

    def __post_init__(self) -> None:
        check_least("DeepLabV3's width", self.width, 1)
        for rate in self.rates:
            check_least("DeepLabV3's rates", rate, 1)
        check_fraction("DeepLabV3's dropout", self.dropout)
        pyramid.share_dtype(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        images = x.shape[1:3]
        output = pyramid.encode(self.encoder, x, train, self.dtype)
        x = [*pyramid.select_maps(self.encoder, output, images, self.levels).values()][-1]
        branches = [self._layer(x, 1, train, name="aspp0")]
        for index, rate in enumerate(self.rates, 1):
            branches.append(self._layer(x, 3, train, dilation=rate, name=f"aspp{index}"))
        mean = self._layer(jnp.mean(x, (1, 2), keepdims=True), 1, train, name="aspp_pool")
        branches.append(jnp.broadcast_to(mean, (*x.shape[:3], self.width)))
        joined = self._layer(jnp.concatenate(branches, -1), 1, train, name="project")
        decoded = nn.Dropout(self.dropout, deterministic=not train)(joined)
        decoded = self._layer(decoded, 3, train, name="decoder")
        taps = {**output.taps, "aspp": joined, "decoded": decoded}
        return Output(pyramid.classify_pixels(decoded, self.classes, images), taps)

    def _layer(self, x: pyramid.Map, size: int, train: bool, *, dilation: int = 1, name: str) -> pyramid.Map:
        """Returns a convolution of `x` after BatchNorm and ReLU."""
        x = residual.conv(self.width, size, dilation=dilation, dtype=self.dtype, name=f"{name}_conv")(x)
        return nn.relu(residual.norm(train, dtype=self.dtype, name=f"{name}_norm")(x))
