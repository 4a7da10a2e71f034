"""Segmentation by a feature pyramid."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import check_least
from jaxdistill.models import pyramid, residual


class FPNSegmenter(nn.Module):
    """A class per pixel from the sum of the maps of a feature pyramid, on any convolutional encoder.

    Kirillov, Girshick, He, Dollár, "Panoptic Feature Pyramid Networks", CVPR 2019, https://arxiv.org/abs/1901.02446,
    section 3.1, in a light form: a map is upsampled at once by bilinear interpolation instead of by a stack of 3x3
    convolutions, and one 3x3 with BatchNorm follows the sum.

    Taps, for x `[batch, height, width, channels]`:
        those of the encoder.
        pyramid1 .. pyramidN: `[batch, height / s, width / s, width]` of the levels, the finest, of stride s, first.
        decoded: `[batch, height / s1, width / s1, width]`, the input of the classifier, at the finest level.

    Attributes:
        classes: number of logits of a pixel.
        encoder: a section with `model` and its keys; a CifarResNet of depth 8 if not set.
        levels: taps of the encoder, the finest first; all stages if empty.
        width: channels of the pyramid.
        dtype: of the computation; params, statistics and the last layer are float32.
    """

    classes: int
    encoder: nn.Module | None = None
    levels: tuple[str, ...] = ()
    width: int = 64
    dtype: Any = jnp.float32

    inputs = ("image",)
    nested = ("encoder",)
    axes = property(pyramid.encoder_axes)

    def __post_init__(self) -> None:
        check_least("FPNSegmenter's width", self.width, 1)
        pyramid.share_dtype(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        images = x.shape[1:3]
        output = pyramid.encode(self.encoder, x, train, self.dtype)
        maps = [*pyramid.select_maps(self.encoder, output, images, self.levels).values()]
        levels = pyramid.FeaturePyramid(self.width, dtype=self.dtype, name="pyramid")(maps)
        total = sum(pyramid.resize(level, levels[0].shape[1:3]) for level in levels)
        decoded = residual.conv(self.width, 3, dtype=self.dtype, name="decoder_conv")(total)
        decoded = nn.relu(residual.norm(train, dtype=self.dtype, name="decoder_norm")(decoded))
        taps = {f"pyramid{index}": level for index, level in enumerate(levels, 1)} | {"decoded": decoded}
        return Output(pyramid.classify_pixels(decoded, self.classes, images), {**output.taps, **taps})
