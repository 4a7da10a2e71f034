"""Masks of objects in COCO's forms: polygons, and run lengths as numbers or text."""

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from jaxdistill.errors import UserError


def draw_objects(size: tuple[int, int], outlines: Sequence[Any], values: Sequence[int], place: str) -> np.ndarray:
    """Draws objects over a background of 0, the largest first.

    Args:
        size: height and width.
        outlines: COCO's `segmentation` of each object: polygons `[[x, y, x, y, ...], ...]`, or run lengths
            `{"size": [height, width], "counts": ...}`.
        values: of each object.
        place: describes the image in an error.

    Returns:
        int32 `[height, width]`.

    Raises:
        UserError: for another form.
    """
    masks = [_draw(size, outline, f"object {number} of {place}") for number, outline in enumerate(outlines)]
    drawn = np.zeros(size, np.int32)
    for number in sorted(range(len(masks)), key=lambda number: -int(masks[number].sum())):
        drawn[masks[number]] = values[number]
    return drawn


def _draw(size: tuple[int, int], outline: Any, place: str) -> np.ndarray:
    if isinstance(outline, dict) and outline.get("size") == [*size]:
        counts = outline.get("counts")
        lengths = decode_lengths(counts) if isinstance(counts, str) else counts
        if _are_lengths(lengths) and sum(lengths) == size[0] * size[1]:
            runs = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
            return runs.reshape(size[::-1]).T  # column by column
    elif isinstance(outline, list) and all(map(_is_ring, outline)):
        return draw_polygons(size, outline)
    raise UserError(
        f"{place} must have a segmentation of polygons, or run lengths of {size[0]} x {size[1]} pixels, got"
        f" {str(outline)[:60]}. Correct it, or set data.annotations='boxes'"
    )


def _are_lengths(lengths: Any) -> TypeGuard[list[int]]:
    return isinstance(lengths, list) and all(isinstance(length, int) and length >= 0 for length in lengths)


def _is_ring(ring: Any) -> bool:
    """Returns whether this is the x and y of three points or more."""
    if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
        return False
    return all(isinstance(number, int | float) and math.isfinite(number) for number in ring)


def draw_polygons(size: tuple[int, int], polygons: Sequence[Sequence[float]]) -> np.ndarray:
    """Returns whether each pixel is in one of some polygons, `[height, width]`.

    A pixel is in a polygon if its centre is, by an odd number of crossings. pycocotools samples the border five times
    as finely instead: pixels on the border differ.
    """
    inside = np.zeros(size, bool)
    for polygon in polygons:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        left, top = np.clip(np.floor(points.min(0)), 0, size[::-1]).astype(int)
        right, bottom = np.clip(np.ceil(points.max(0)), 0, size[::-1]).astype(int)
        y, x = np.arange(top, bottom)[:, None] + 0.5, np.arange(left, right)[None, :] + 0.5
        is_odd = np.zeros(np.broadcast_shapes(y.shape, x.shape), bool)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, 0), strict=True):
            if y1 != y2:
                is_odd ^= ((y1 <= y) != (y2 <= y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        inside[top:bottom, left:right] |= is_odd
    return inside


def decode_lengths(text: str) -> list[int]:
    """Returns run lengths from COCO's text of them.

    Each character has five bits of a number, low ones first, and one for whether more follow; from the fourth
    number on, a number is the difference to the one two before. `rleFrString` in maskApi.c of
    https://github.com/cocodataset/cocoapi.
    """
    lengths: list[int] = []
    position = 0
    while position < len(text):
        number, shift, more = 0, 0, True
        while more and position < len(text):
            code = ord(text[position]) - 48
            number |= (code & 31) << shift
            more = bool(code & 32)
            position, shift = position + 1, shift + 5
            if not more and code & 16:
                number |= -1 << shift
        lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
    return lengths
