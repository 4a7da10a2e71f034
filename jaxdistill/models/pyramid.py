"""Parts of dense models: an encoder, its maps, and the feature pyramid on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, unknown
from jaxdistill.models import residual
from jaxdistill.models.cifar_resnet import CifarResNet

Map = Float[Array, "batch _ _ _"]

VIT_LEVELS = 4
"""Number of maps of a transformer, all of one size, unless `levels` names them."""

uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# torchvision's FeaturePyramidNetwork: kaiming_uniform_ with a=1.


def encode(
    encoder: nn.Module | None, x: Float[Array, "batch height width channels"], train: bool, dtype: Any
) -> Output:
    """Returns the output of a dense model's encoder, whose params are those of `encoder`; call it in the model.

    Args:
        encoder: a model with 0 classes, a field `encoder` of the dense model; a `CifarResNet` of depth 8 if `None`.
        x: images.
        train: as of the model.
        dtype: of the computation of the default one.
    """
    return (encoder or CifarResNet(0, depth=8, dtype=dtype, name="encoder"))(x, train)


def share_dtype(model: Any) -> None:
    """Gives the encoder of a dense model the dtype of the model; for its `__post_init__`."""
    if model.encoder is not None and model.encoder.dtype != model.dtype:
        object.__setattr__(model, "encoder", model.encoder.clone(dtype=model.dtype))


def encoder_axes(model: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns the names of the dimensions of the kernels of a dense model's encoder, for `train/partitioning.py`."""
    return getattr(model.encoder, "axes", ())


def select_maps(
    encoder: nn.Module | None, output: Output, images: tuple[int, int], levels: Sequence[str] = ()
) -> dict[str, Map]:
    """Returns maps of an encoder by the name of the tap, the finest first.

    Those of a convolutional network are its stages; those of WideResNet are activated. Those of a transformer are its
    patches after four blocks at equal distances, the last one after the final norm.

    Args:
        encoder: as of `encode`.
        output: of the encoder.
        images: height and width of its images.
        levels: names of taps; as above if empty.

    Raises:
        UserError: for a level that the encoder does not have.
    """
    patch = getattr(encoder, "patch", 0) if "embed" in output.taps else 0
    if not levels:
        levels = _blocks(output.taps) if patch else [name for name in output.taps if _is_stage(name)]
    for level in levels:
        if level not in output.taps:
            raise unknown("levels", level, output.taps, "taps of the encoder")
    if patch:
        return {level: _to_grid(output.taps[level], images, patch) for level in levels}
    if getattr(encoder, "stages_are_sums", False):
        return {level: nn.relu(output.taps[f"{level}/preact"]) for level in levels}
    return {level: output.taps[level] for level in levels}


def _is_stage(name: str) -> bool:
    return name.startswith("stage") and "/" not in name


def _blocks(taps: Mapping[str, Array]) -> list[str]:
    """Returns the blocks of a transformer whose outputs are maps, and `final`."""
    count = sum(name.startswith("block") and "/" not in name for name in taps)
    places = {round((index + 1) * count / VIT_LEVELS) - 1 for index in range(VIT_LEVELS - 1)}
    return [*(f"block{place}" for place in sorted(places) if 0 <= place < count - 1), "final"]


def _to_grid(x: Float[Array, "batch length width"], images: tuple[int, int], patch: int) -> Map:
    """Returns the patches of a transformer as a map, without the tokens before them."""
    rows, columns = (side // patch for side in images)
    if x.ndim != 3 or x.shape[1] < rows * columns:
        raise UserError(
            f"levels must be taps with one row for each of {rows} x {columns} patches, got {list(x.shape)}."
            " Use blocks or 'final'"
        )
    return x[:, x.shape[1] - rows * columns :].reshape(x.shape[0], rows, columns, x.shape[-1])


def resize(x: Map, size: tuple[int, int], method: str = "bilinear") -> Map:
    """Returns a map of another size: "bilinear" with aligned centres, or "nearest" by `floor`, as PyTorch has both."""
    if x.shape[1:3] == tuple(size):
        return x
    if method == "nearest":
        rows, columns = (np.arange(want) * have // want for have, want in zip(x.shape[1:3], size, strict=True))
        return x[:, rows][:, :, columns]
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), method, antialias=False)


class FeaturePyramid(nn.Module):
    """Maps of one width from those of an encoder, the coarser ones added to the finer.

    Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, https://arxiv.org/abs/1612.03144: a 1x1 on
    each map, the sum with the next coarser one upsampled by nearest neighbour, and a 3x3 on each sum; equal to
    torchvision's `FeaturePyramidNetwork`. `extra` coarser maps are 3x3 convolutions of stride 2 of the last one, with a
    ReLU between them (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017,
    https://arxiv.org/abs/1708.02002, section 4; torchvision's `LastLevelP6P7`).

    Attributes:
        width: channels of all maps.
        extra: number of further, coarser maps.
        source: the map that the first extra one is of: "output", the coarsest of the pyramid, or "input", the
            encoder's, as in RetinaNet's paper.
        smooth: whether the sums have a 3x3 each.
        dtype: of the computation.
    """

    width: int = 256
    extra: int = 0
    source: str = "output"
    smooth: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[Map]) -> list[Map]:
        """Returns as many maps, and the extra ones; the finest is first in both."""
        if self.source not in ("output", "input"):
            raise unknown("FeaturePyramid's source", self.source, ("output", "input"))
        results, coarser = [], None
        for level in reversed(range(len(maps))):
            x = self._conv(1, 1, f"lateral{level}")(maps[level])
            coarser = x if coarser is None else x + resize(coarser, x.shape[1:3], "nearest")
            results.insert(0, self._conv(3, 1, f"smooth{level}")(coarser) if self.smooth else coarser)
        x = maps[-1] if self.source == "input" else results[-1]
        for index in range(self.extra):
            x = self._conv(3, 2, f"extra{index}")(nn.relu(x) if index else x)
            results.append(x)
        return results

    def _conv(self, size: int, stride: int, name: str) -> nn.Conv:
        return residual.conv(self.width, size, stride, bias=True, init=uniform, dtype=self.dtype, name=name)


def classify_pixels(x: Map, classes: int, images: tuple[int, int]) -> Float[Array, "batch height width {classes}"]:
    """Returns logits in float32 at the images' resolution: a 1x1 named `head`, and bilinear upsampling."""
    head = nn.Conv(classes, (1, 1), kernel_init=residual.torch_linear, dtype=jnp.float32, name="head")
    return resize(head(x), images)
