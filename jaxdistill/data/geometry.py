"""Geometric augmentation of label maps and boxes: the moves of the pixels, as affine maps.

A move gives the place in the old image that a pixel of the new one is taken from. Its random numbers are those that the
transform of the image in `augment` draws from the same key. Label maps are taken from the nearest pixel, and are void
outside of the old image. Boxes become the upright boxes about their moved corners, clipped to the new image, and are
dropped if less than `VISIBLE` of their area remains.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill.core import UNLABELLED
from jaxdistill.errors import UserError

VISIBLE = 0.3
"""The fraction of the area of a box that must remain in the image."""

SHARE = "visible"
"""The field of moving labels that counts the part of each box that has remained so far."""


@dataclasses.dataclass(frozen=True)
class Move:
    """A move of the pixels of one image.

    Attributes:
        matrix: `[2, 3]`, from row, column and 1 of a pixel of the new image to row and column in the old one.
        size: height and width of the new image.
    """

    matrix: jax.Array
    size: tuple[int, int]


Labels = Mapping[str, jax.Array]
"""Dense labels of one example: `label_map`, or `boxes`, `box_label` and `box_crowd`."""


def draw_offset(key: jax.Array, most: int | jax.Array) -> jax.Array:
    """Draws a row and a column, int32 `[2]`, from 0 to `most`, inclusive."""
    return jax.random.randint(key, (2,), 0, most + 1)


def draw_angle(key: jax.Array, degrees: float) -> jax.Array:
    """Draws an angle in `[-degrees, degrees]`."""
    return jax.random.uniform(key, minval=-degrees, maxval=degrees)


def draw_zoom(key: jax.Array, size: tuple[int, int], low: float, high: float) -> tuple[jax.Array, jax.Array]:
    """Draws the factor of a scaling, and the row and column at which the new image begins in the old one."""
    numbers = jax.random.uniform(key, (3,))
    factor = low + (high - low) * numbers[0]
    # The new image lies in the old one if it is enlarged, and around it otherwise.
    return factor, numbers[1:] * jnp.array(size) * (1 - 1 / factor)


def crop_image(key: jax.Array, image: jax.Array, height: int, width: int) -> jax.Array:
    """Cuts out a window of this size, at most the image's, at any place."""
    check_crop(image.shape[:2], height, width)
    row, column = draw_offset(key, jnp.array([image.shape[0] - height, image.shape[1] - width]))
    return jax.lax.dynamic_slice(image, (row, column, 0), (height, width, image.shape[2]))


def scale_image(key: jax.Array, image: jax.Array, low: float, high: float) -> jax.Array:
    """Scales by a factor uniform in `[low, high]`, bilinearly, and keeps the size of the image.

    An enlarged image is cut at any place, and a smaller one lies at any place on black. It is not antialiased.
    """
    factor, starts = draw_zoom(key, image.shape[:2], low, high)
    for axis, length in enumerate(image.shape[:2]):
        place = (jnp.arange(length) + 0.5) / factor - 0.5 + starts[axis]
        first = jnp.clip(jnp.floor(place), 0, length - 1).astype(jnp.int32)
        fraction = jnp.clip(place - first, 0.0, 1.0)
        is_inside = (place >= -0.5) & (place < length - 0.5)
        # Bilinear weights are products, so that rows and columns are interpolated one after the other.
        weights = (
            jnp.expand_dims(is_inside * weight, [i for i in range(3) if i != axis])
            for weight in (1 - fraction, fraction)
        )
        neighbours = (jnp.take(image, place, axis) for place in (first, jnp.minimum(first + 1, length - 1)))
        image = sum(weight * neighbour for weight, neighbour in zip(weights, neighbours, strict=True))
    return image


ASPECT = (3 / 4, 4 / 3)
"""Aspect ratios of `random_resized_crop`."""


def draw_window(key: jax.Array, size: tuple[int, int], low: float, high: float) -> tuple[jax.Array, jax.Array]:
    """Draws a window: its height and width, and its row and column, float32 `[2]` of whole numbers each."""
    numbers = jax.random.uniform(key, (4,))
    area = size[0] * size[1] * (low + (high - low) * numbers[0])
    ratio = jnp.exp(jnp.log(ASPECT[0]) + (jnp.log(ASPECT[1]) - jnp.log(ASPECT[0])) * numbers[1])
    sides = jnp.round(jnp.sqrt(jnp.stack([area / ratio, area * ratio])))
    sides = jnp.clip(sides, 1, jnp.array(size))
    return sides, jnp.floor(numbers[2:] * (jnp.array(size) - sides + 1))


def resize_window(image: jax.Array, sides: jax.Array, start: jax.Array) -> jax.Array:
    """Resizes a window of an image to the size of the image, bilinearly and antialiased."""
    size = jnp.array(image.shape[:2], jnp.float32)
    move = {"scale": size / sides, "translation": -start * size / sides}
    resized = jax.image.scale_and_translate(image, image.shape, (0, 1), **move, method="linear", antialias=True)
    return jnp.clip(resized, 0.0, 1.0)


def random_resized_crop_image(key: jax.Array, image: jax.Array, low: float, high: float) -> jax.Array:
    """Cuts a window out and resizes it to the size of the image.

    Its area is a fraction of the image's, uniform in `[low, high]`, and the logarithm of its aspect ratio is uniform
    between those of 3/4 and 4/3, as in torchvision's `RandomResizedCrop`. Differences: a window that does not fit is
    cut to the image, where torchvision draws again; pixels beside the window contribute at its border.
    """
    return resize_window(image, *draw_window(key, image.shape[:2], low, high))


def check_crop(size: tuple[int, int], height: int, width: int) -> None:
    """Raises `UserError` for a crop that is larger than the image."""
    if height > size[0] or width > size[1]:
        raise UserError(
            f"data.augment: the size of crop must be at most that of the images, {size[0]},{size[1]}, got"
            f" {height},{width}. Reduce it, or set data.size"
        )


def flip(key: jax.Array, size: tuple[int, int]) -> Move:
    """The move of `augment.flip`."""
    sign = jnp.where(jax.random.bernoulli(key), -1, 1)
    return _make(size, (1, 0, 0), (0, sign, jnp.where(sign < 0, size[1] - 1, 0)))


def pad_crop(key: jax.Array, size: tuple[int, int], pad: int) -> Move:
    """The move of `augment.pad_crop`."""
    row, column = draw_offset(key, 2 * pad)
    return _make(size, (1, 0, row - pad), (0, 1, column - pad))


def crop(key: jax.Array, size: tuple[int, int], height: int, width: int) -> Move:
    """The move of `augment.crop`."""
    row, column = draw_offset(key, jnp.array([size[0] - height, size[1] - width]))
    return _make((height, width), (1, 0, row), (0, 1, column))


def scale(key: jax.Array, size: tuple[int, int], low: float, high: float) -> Move:
    """The move of `augment.scale`."""
    factor, (row, column) = draw_zoom(key, size, low, high)
    half = 0.5 / factor - 0.5
    return _make(size, (1 / factor, 0, row + half), (0, 1 / factor, column + half))


def random_resized_crop(key: jax.Array, size: tuple[int, int], low: float, high: float) -> Move:
    """The move of `random_resized_crop_image`."""
    sides, start = draw_window(key, size, low, high)
    factor = sides / jnp.array(size)
    offset = start + factor / 2 - 0.5
    return _make(size, (factor[0], 0, offset[0]), (0, factor[1], offset[1]))


def rotate(key: jax.Array, size: tuple[int, int], degrees: float) -> Move:
    """The move of `augment.rotate`."""
    angle = jnp.deg2rad(draw_angle(key, degrees))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    down, right = (size[0] - 1) / 2, (size[1] - 1) / 2
    return _make(size, (cos, sin, down - cos * down - sin * right), (-sin, cos, right + sin * down - cos * right))


def _make(size: tuple[int, int], *rows: tuple[jax.Array | float, ...]) -> Move:
    return Move(jnp.stack([jnp.stack([jnp.asarray(x, jnp.float32) for x in row]) for row in rows]), tuple(size))


def begin(labels: Labels) -> Labels:
    """Returns labels that are to be moved."""
    return {**labels, SHARE: jnp.ones(labels["box_label"].shape)} if "boxes" in labels else labels


def move(labels: Labels, size: tuple[int, int], movement: Move) -> Labels:
    """Returns the labels of one image after a move; `size` is the height and width of the old image."""
    moved = dict(labels)
    if "label_map" in labels:
        moved["label_map"] = move_map(labels["label_map"], movement)
    if "boxes" in labels:
        moved["boxes"], remaining = move_boxes(labels["boxes"], size, movement)
        moved[SHARE] = labels[SHARE] * remaining
    return moved


def finish(labels: Labels) -> Labels:
    """Returns moved labels without the boxes of which too little remains, whose rows become padding."""
    if "boxes" not in labels:
        return labels
    is_kept = (labels["box_label"] != UNLABELLED) & (labels[SHARE] >= VISIBLE)
    return {name: array for name, array in labels.items() if name != SHARE} | {
        "boxes": jnp.where(is_kept[:, None], labels["boxes"], 0.0),
        "box_label": jnp.where(is_kept, labels["box_label"], UNLABELLED),
        "box_crowd": jnp.where(is_kept, labels["box_crowd"], 0),
    }


def move_map(label_map: jax.Array, movement: Move) -> jax.Array:
    """Moves a label map `[height, width]` by the nearest pixel, with void outside."""
    height, width = label_map.shape
    down, right = jnp.arange(movement.size[0])[:, None], jnp.arange(movement.size[1])[None, :]
    row, column = (jnp.floor(a * down + b * right + c + 0.5).astype(jnp.int32) for a, b, c in movement.matrix)
    is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    taken = label_map.reshape(-1)[jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)]
    return jnp.where(is_inside, taken, UNLABELLED)


def move_image(image: jax.Array, movement: Move) -> jax.Array:
    """Moves an image `[height, width, channels]` by the nearest pixel, with black outside."""
    rows = jnp.arange(image.shape[0] * image.shape[1], dtype=jnp.int32).reshape(image.shape[:2])
    place = move_map(rows, movement)
    taken = image.reshape(-1, image.shape[-1])[jnp.maximum(place, 0)]
    return jnp.where((place >= 0)[..., None], taken, 0.0)


def move_boxes(boxes: jax.Array, size: tuple[int, int], movement: Move) -> tuple[jax.Array, jax.Array]:
    """Moves boxes `[boxes, 4]`; returns them, and the fraction of the area of each that the new image shows."""
    # Pixels are at whole numbers, so that the border of an image is half a pixel before the first one.
    (a, b, row), (c, d, column) = movement.matrix
    down, right = boxes[:, 0::2] * size[0] - 0.5 - row, boxes[:, 1::2] * size[1] - 0.5 - column  # [boxes, 2]
    down, right = (jnp.concatenate([x, y], 1) for x, y in ((down, down), (right, right[:, ::-1])))  # four corners
    down, right = ((d * down - b * right) / (a * d - b * c), (a * right - c * down) / (a * d - b * c))
    down, right = (down + 0.5) / movement.size[0], (right + 0.5) / movement.size[1]
    upright = jnp.stack([down.min(1), right.min(1), down.max(1), right.max(1)], 1)
    clipped = jnp.clip(upright, 0.0, 1.0)
    return clipped, _area(clipped) / jnp.maximum(_area(upright), 1e-12)


def _area(boxes: jax.Array) -> jax.Array:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def tile(key: jax.Array, labels: Labels, size: tuple[int, int]) -> Labels:
    """Returns the labels of a mosaic of four images, `[4, ...]` each; boxes are those of all four."""
    row, column = draw_offset(key, jnp.array(size))
    tiled: dict[str, jax.Array] = {}
    if "label_map" in labels:
        tiled["label_map"] = window(labels["label_map"][..., None], row, column)[..., 0]
    if "boxes" in labels:
        parts = []
        for number in range(4):
            shift = _make(size, (1, 0, row - size[0] * (number // 2)), (0, 1, column - size[1] * (number % 2)))
            part = {name: labels[name][number] for name in ("boxes", "box_label", "box_crowd")}
            parts.append(finish(move(begin(part), size, shift)))
        tiled |= {name: jnp.concatenate([part[name] for part in parts]) for name in parts[0]}
    return tiled


def window(images: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """Cuts one image out of four, `[4, height, width, channels]`, that are put together two by two."""
    _, height, width, channels = images.shape
    top, bottom = (jnp.concatenate([images[i], images[i + 1]], 1) for i in (0, 2))
    canvas = jnp.concatenate([top, bottom], 0)
    return jax.lax.dynamic_slice(canvas, (row, column, 0), (height, width, channels))


def find_window(image: jax.Array, centre: jax.Array, sides: Sequence[jax.Array | int]) -> jax.Array:
    """Returns `[height, width, 1]`, true in the box of these sides about the centre, cut at the border."""

    def inside(length: int, middle: jax.Array, side: jax.Array | int) -> jax.Array:
        start = middle - side // 2
        return (jnp.arange(length) >= start) & (jnp.arange(length) < start + side)

    rows, columns = map(inside, image.shape[:2], centre, sides)
    return (rows[:, None] & columns[None, :])[..., None]


Geometry = Callable[..., Any]
"""From `(key, size, *numbers)` to a `Move`; for a mosaic from `(key, labels, size)` to the labels."""
