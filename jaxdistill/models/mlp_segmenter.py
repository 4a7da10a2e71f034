"""Segmentation by linear layers on the maps of an encoder, the decoder of SegFormer."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import check_fraction, check_least
from jaxdistill.models import pyramid, residual


class MLPSegmenter(nn.Module):
    """A class per pixel from a linear layer on each map, all upsampled to the finest and joined by another one.

    Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for Semantic Segmentation with
    Transformers", NeurIPS 2021, https://arxiv.org/abs/2105.15203, section 3.2: its all-MLP decoder, equal to the
    `SegformerDecodeHead` of transformers, whose joined maps begin with the coarsest. The encoder is a ViT, whose maps
    are of one size, or a convolutional one, instead of the paper's hierarchical transformer.

    Taps, for x `[batch, height, width, channels]` and a finest map of stride s:
        those of the encoder.
        decoded: `[batch, height / s, width / s, width]`, the input of the classifier, before dropout.

    Attributes:
        classes: number of logits of a pixel.
        encoder: a section with `model` and its keys; a CifarResNet of depth 8 if not set.
        levels: taps of the encoder, the finest first; all stages, or four blocks of a ViT at equal distances, if empty.
        width: channels of the decoder.
        dropout: rate before the classifier.
        dtype: of the computation; params, statistics and the last layer are float32.
    """

    classes: int
    encoder: nn.Module | None = None
    levels: tuple[str, ...] = ()
    width: int = 256
    dropout: float = 0.1
    dtype: Any = jnp.float32

    inputs = ("image",)
    nested = ("encoder",)
    axes = property(pyramid.encoder_axes)

    def __post_init__(self) -> None:
        check_least("MLPSegmenter's width", self.width, 1)
        check_fraction("MLPSegmenter's dropout", self.dropout)
        pyramid.share_dtype(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        images = x.shape[1:3]
        output = pyramid.encode(self.encoder, x, train, self.dtype)
        maps = [*pyramid.select_maps(self.encoder, output, images, self.levels).values()]
        size, projected = maps[0].shape[1:3], []
        for index, level in enumerate(maps):
            linear = nn.Dense(self.width, kernel_init=residual.torch_linear, dtype=self.dtype, name=f"linear{index}")
            projected.append(pyramid.resize(linear(level), size))
        decoded = residual.conv(self.width, 1, dtype=self.dtype, name="fuse_conv")(jnp.concatenate(projected[::-1], -1))
        decoded = nn.relu(residual.norm(train, dtype=self.dtype, name="fuse_norm")(decoded))
        dropped = nn.Dropout(self.dropout, deterministic=not train)(decoded)
        logits = pyramid.classify_pixels(dropped, self.classes, images)
        return Output(logits, {**output.taps, "decoded": decoded})
