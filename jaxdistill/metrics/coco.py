"""Average precision of boxes as COCO defines it, on the host in float64.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and the evaluation of
https://github.com/cocodataset/cocoapi (`cocoeval.py`), whose numbers these are. A detection is matched, best score
first, with the free box of its class that it overlaps most; a region of a crowd is never taken and counts as neither,
and so does a box outside of the range of sizes.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU from which on a detection can match."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which the precision is averaged."""

SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Ranges of areas in pixels, both ends included."""

SPACING = np.spacing(1)


@dataclasses.dataclass(frozen=True)
class Image:
    """Boxes and detections of one image.

    Attributes:
        truth: `[n, 4]`, (x, y, width, height) in pixels.
        label: `[n]`.
        crowd: bool `[n]`.
        boxes: detections in the same form, `[m, 4]`.
        classes: `[m]`.
        scores: `[m]`, falling.
    """

    truth: np.ndarray
    label: np.ndarray
    crowd: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Matches:
    """One class of one image, by range of sizes: `a` is the number of `SIZES`, `t` that of `THRESHOLDS`.

    Attributes:
        scores: `[m]`.
        is_right: `[a, t, m]`, detections that match a box.
        is_ignored: `[a, t, m]`, those that count neither as right nor as wrong.
        boxes: `[a]`, number of boxes that can be found.
    """

    scores: np.ndarray
    is_right: np.ndarray
    is_ignored: np.ndarray
    boxes: np.ndarray


def overlaps(detections: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Returns the IoU `[m, n]` of boxes (x, y, width, height); with a crowd, the part of the detection inside of it."""
    left, right = detections[:, None], truth[None]
    low = np.maximum(left[..., :2], right[..., :2])
    high = np.minimum(left[..., 2:] + left[..., :2], right[..., 2:] + right[..., :2])
    sides = np.maximum(high - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    area = left[..., 2] * left[..., 3]
    union = np.where(crowd[None], area, area + right[..., 2] * right[..., 3] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def outside(boxes: np.ndarray) -> np.ndarray:
    """Returns which boxes `[n, 4]` are outside of each range of sizes, bool `[a, n]`."""
    area = (boxes[:, 2] * boxes[:, 3])[None]
    ranges = np.array([*SIZES.values()])
    return (area < ranges[:, :1]) | (area > ranges[:, 1:])


def match(image: Image, label: int) -> Matches | None:
    """Returns the matches of one class; `None` if the image has neither boxes nor detections of it."""
    of_class, predicted = image.label == label, image.classes == label
    if not of_class.any() and not predicted.any():
        return None
    truth, crowd, boxes = image.truth[of_class], image.crowd[of_class], image.boxes[predicted]
    ignored = outside(truth) | crowd[None]
    shape = (len(SIZES), len(THRESHOLDS))
    free = np.ones((*shape, len(truth)), bool)
    is_right = np.zeros((*shape, len(boxes)), bool)
    is_ignored = np.zeros((*shape, len(boxes)), bool)
    for place, row in enumerate(overlaps(boxes, truth, crowd) if len(truth) else ()):
        fits = free & (row[None, None] >= THRESHOLDS[None, :, None])
        real = fits & ~ignored[:, None]
        # A box that counts comes before one that does not; of equal overlaps the last counts.
        candidates = np.where(real.any(-1, keepdims=True), real, fits)
        values = np.where(candidates, row[None, None], -1.0)
        chosen = len(truth) - 1 - np.argmax(values[..., ::-1], -1)
        has_match = candidates.any(-1)
        is_right[..., place] = has_match
        is_ignored[..., place] = has_match & np.take_along_axis(ignored, chosen, -1)
        taken = has_match[..., None] & (np.arange(len(truth)) == chosen[..., None]) & ~crowd
        free &= ~taken
    is_ignored |= ~is_right & outside(boxes)[:, None]
    return Matches(image.scores[predicted], is_right, is_ignored, np.sum(~ignored, -1))


def precisions(images: list[Image], classes: int) -> np.ndarray:
    """Returns the precision at each recall, `[classes, a, t, recalls]`; nan for a class without boxes to find."""
    table = np.full((classes, len(SIZES), len(THRESHOLDS), len(RECALLS)), np.nan)
    for label in range(classes):
        matches = [result for image in images if (result := match(image, label)) is not None]
        if not matches:
            continue
        order = np.argsort(-np.concatenate([part.scores for part in matches]), kind="stable")
        is_right, is_ignored = (
            np.concatenate([getattr(part, name) for part in matches], -1)[..., order]
            for name in ("is_right", "is_ignored")
        )
        boxes = sum(part.boxes for part in matches)
        for size in np.flatnonzero(boxes):
            curves = precision_curves(is_right[size], is_ignored[size], boxes[size])
            for threshold, curve in enumerate(curves):
                table[label, size, threshold] = curve
    return table


def precision_curves(is_right: np.ndarray, is_ignored: np.ndarray, boxes: int) -> Iterator[np.ndarray]:
    """Yields the interpolated precision at each recall for each threshold, from `[t, m]` by falling score."""
    hits = np.cumsum(is_right & ~is_ignored, -1).astype(np.float64)
    misses = np.cumsum(~is_right & ~is_ignored, -1).astype(np.float64)
    for right, wrong in zip(hits, misses, strict=True):
        precision = np.maximum.accumulate((right / (wrong + right + SPACING))[::-1])[::-1]
        place = np.searchsorted(right / boxes, RECALLS, side="left")
        yield np.where(place < len(precision), np.append(precision, 0.0)[np.minimum(place, len(precision))], 0.0)
