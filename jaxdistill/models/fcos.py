"""FCOS: a detector without anchors, on a feature pyramid."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_least
from jaxdistill.models import pyramid, residual

Map = Float[Array, "batch _ _ _"]
Maps = Mapping[str, Map]

PRIOR = 0.01
"""Probability of each class at initialisation, so that the background does not dominate the first steps."""

LEVELS = 3
"""Number of maps of the encoder that are taken unless `levels` names them, the last ones."""

small = nn.initializers.normal(0.01)


def level_strides(images: tuple[int, int], maps: Sequence[tuple[int, int]]) -> list[int]:
    """Returns the stride of each map of a pyramid, a power of 2, the finest first.

    Args:
        images: height and width.
        maps: the same of each level.

    Raises:
        UserError: for a map whose sides are not those of the image divided by a power of 2, larger than the last one.
    """
    strides, power = [], 0
    for sides in maps:
        while any(-(-side >> power) > have for side, have in zip(images, sides, strict=True)):
            power += 1
        stride = 2**power
        if any(-(-side // stride) != have for side, have in zip(images, sides, strict=True)):
            raise UserError(
                f"levels must be maps of which each has half of the places of the one before, got {[*maps]} of images"
                f" {list(images)}. Name other taps of the encoder"
            )
        strides.append(stride)
        power += 1
    return strides


def make_locations(
    images: tuple[int, int], maps: Sequence[tuple[int, int]], strides: Sequence[int]
) -> Float[np.ndarray, "locations 4"]:
    """Returns the centres and strides of all places (y, x, stride, stride), in fractions of the image's sides."""
    levels = []
    for (height, width), stride in zip(maps, strides, strict=True):
        y, x = np.meshgrid((np.arange(height) + 0.5) * stride, (np.arange(width) + 0.5) * stride, indexing="ij")
        levels.append(np.stack([y, x, np.full_like(y, stride), np.full_like(y, stride)], -1).reshape(-1, 4))
    return (np.concatenate(levels) / np.array([*images, *images])).astype(np.float32)


class FCOSHead(nn.Module):
    """The two towers of FCOS and their predictions, shared by all levels.

    A tower is `tower` times 3x3 convolution, GroupNorm and ReLU. One ends with the classes, the other with the four
    distances and the centre-ness. It may begin in the middle of its towers, with the maps of another head.

    Attributes:
        classes: number of classes.
        width: channels of a tower.
        tower: number of convolutions of a tower.
        groups: of GroupNorm.
        bins: see `FCOS`.
        dtype: of the computation; predictions are float32.
    """

    classes: int
    width: int = 256
    tower: int = 4
    groups: int = 32
    bins: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, class_maps: Maps, box_maps: Maps, images: tuple[int, int], start: int = 0, train: bool = False
    ) -> Output:
        """Returns logits, and the taps of predictions and towers (`FCOS`).

        Args:
            class_maps: maps by level, the finest first: those of the pyramid, or of a tower of classes.
            box_maps: the same of the tower of boxes.
            images: height and width.
            start: number of convolutions of the towers that are left out.
            train: not used; all modules of a network have it.
        """
        taps: dict[str, Array] = {}
        class_maps = self._run_tower("class", class_maps, start, taps)
        box_maps = self._run_tower("box", box_maps, start, taps)
        bias = nn.initializers.constant(-math.log((1 - PRIOR) / PRIOR))
        logits = self._predict("logits", class_maps, (self.classes,), bias)
        # The paper's exp(x) begins at one stride; without this bias a ReLU begins without gradient at half of them.
        outputs = (4, self.bins + 1) if self.bins else (4,)
        edges = self._predict("distances", box_maps, outputs, nn.initializers.constant(0.0 if self.bins else 1.0))
        taps["centerness"] = self._predict("centerness", box_maps, (), nn.initializers.zeros)
        if self.bins:
            taps["edges"] = edges
            edges = jnp.matmul(jax.nn.softmax(edges), jnp.arange(self.bins + 1.0), precision="highest")
        distances = nn.relu(edges)
        sizes = [(x.shape[1], x.shape[2]) for x in box_maps.values()]
        grid = jnp.array(make_locations(images, sizes, level_strides(images, sizes)))
        taps["distances"], taps["boxes"] = distances, decode(grid, distances)
        taps["locations"] = jnp.broadcast_to(grid[None], (logits.shape[0], *grid.shape))
        return Output(logits, taps)

    def _run_tower(self, name: str, maps: Maps, start: int, taps: dict[str, Array]) -> dict[str, Map]:
        maps = dict(maps)
        for index in range(start, self.tower):
            bias = {"bias": True, "init": small, "dtype": self.dtype}
            conv = residual.conv(self.width, 3, **bias, name=f"{name}_conv{index}")
            norm = nn.GroupNorm(
                self.groups, epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name=f"{name}_norm{index}"
            )
            maps = {level: nn.relu(norm(conv(x))) for level, x in maps.items()}
            taps |= {f"{level}/{name}{index + 1}": x for level, x in maps.items()}
        return maps

    def _predict(
        self, name: str, maps: Maps, outputs: tuple[int, ...], bias: Callable[..., Array]
    ) -> Float[Array, "batch locations *outputs"]:
        """Returns predictions of all levels, joined."""
        conv = nn.Conv(
            math.prod(outputs), (3, 3), padding=((1, 1), (1, 1)), kernel_init=small, bias_init=bias, name=name
        )
        levels = [conv(x) for x in maps.values()]
        return jnp.concatenate([x.reshape(x.shape[0], -1, *outputs) for x in levels], 1)


def decode(
    locations: Float[Array, "locations 4"], distances: Float[Array, "batch locations 4"]
) -> Float[Array, "batch locations 4"]:
    """Returns boxes (y_min, x_min, y_max, x_max) from distances (left, top, right, bottom) in strides."""
    left, top, right, bottom = (distances[..., edge] for edge in range(4))
    y, x, height, width = (locations[None, :, axis] for axis in range(4))
    return jnp.stack([y - top * height, x - left * width, y + bottom * height, x + right * width], -1)


class FCOS(nn.Module):
    """FCOS on the maps of any convolutional encoder.

    Tian, Shen, Chen, He, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019,
    https://arxiv.org/abs/1904.01355, with the improvements of its journal version (https://arxiv.org/abs/2006.09214):
    centre-ness beside the distances, distances in strides. Equal to torchvision's `fcos_resnet50_fpn` (encoder ResNet
    of depth 50, the defaults here) but for the locations: centres of the places, as in the paper, where torchvision has
    their upper left corners; and for the first bias of the distances, 1, as the paper's exp(x) begins.
    With `bins` a distance is the mean of a distribution (Li et al., "Generalized Focal Loss", NeurIPS 2020,
    https://arxiv.org/abs/2006.04388), which localisation distillation compares.

    Taps, for x `[batch, height, width, channels]`, with n locations of all levels, the finest level first, rows first:
        those of the encoder.
        Pk ..: `[batch, height / 2^k, width / 2^k, width]`, maps of the pyramid.
        Pk/class1 .., Pk/box1 ..: of the same shape, after each convolution of a tower.
        locations: `[batch, n, 4]`, centre (y, x) and stride along both, in fractions of the image's sides.
        distances: `[batch, n, 4]`, left, top, right and bottom in strides.
        boxes: `[batch, n, 4]`, (y_min, x_min, y_max, x_max) in fractions of the image's sides.
        centerness: `[batch, n]`, logits.
        edges: `[batch, n, 4, bins + 1]`, with `bins`: logits of the distances 0, 1 .. bins.

    Logits are `[batch, n, classes]`, of independent decisions: a score is a sigmoid.

    Attributes:
        classes: number of classes, without a background.
        encoder: a section with `model` and its keys; a CifarResNet of depth 8 if not set.
        levels: taps of the encoder, the finest first, of which each has half of the places of the one before; the last
            three stages if empty.
        extra: number of coarser maps besides.
        width: channels of the pyramid and the towers.
        tower: number of convolutions of a tower.
        groups: of GroupNorm; they must divide `width`.
        bins: largest distance of a distribution, in strides; 0 for plain distances.
        dtype: of the computation; params and predictions are float32.
    """

    classes: int
    encoder: nn.Module | None = None
    levels: tuple[str, ...] = ()
    extra: int = 2
    width: int = 256
    tower: int = 4
    groups: int = 32
    bins: int = 0
    dtype: Any = jnp.float32

    inputs = ("image",)
    nested = ("encoder",)
    axes = property(pyramid.encoder_axes)

    def __post_init__(self) -> None:
        for name, least in (("extra", 0), ("width", 1), ("tower", 0), ("groups", 1), ("bins", 0)):
            check_least(f"FCOS's {name}", getattr(self, name), least)
        if self.width % self.groups:
            raise UserError(f"FCOS's groups must divide width={self.width}, got {self.groups}. Set both")
        pyramid.share_dtype(self)
        super().__post_init__()

    @nn.nowrap
    def make_head(self, name: str | None = None) -> FCOSHead:
        """Returns the module of the params `head`; without a name one that stands alone."""
        fields: dict[str, Any] = {"width": self.width, "tower": self.tower, "groups": self.groups, "bins": self.bins}
        fields |= {"name": name} if name else {"parent": None}
        return FCOSHead(self.classes, **fields, dtype=self.dtype)

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Output:
        images = (x.shape[1], x.shape[2])
        output = pyramid.encode(self.encoder, x, train, self.dtype)
        maps = [*pyramid.select_maps(self.encoder, output, images, self.levels).values()]
        maps = maps if self.levels else maps[-LEVELS:]
        maps = pyramid.FeaturePyramid(self.width, extra=self.extra, dtype=self.dtype, name="pyramid")(maps)
        strides = level_strides(images, [(x.shape[1], x.shape[2]) for x in maps])
        named = {f"P{stride.bit_length() - 1}": x for stride, x in zip(strides, maps, strict=True)}
        head = self.make_head("head")(named, named, images, train=train)
        return Output(head.logits, {**output.taps, **named, **head.taps})
