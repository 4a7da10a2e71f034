"""Detections from the output of a detector: scores, and non-maximum suppression with a fixed number of results."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jaxdistill import core
from jaxdistill.core import Output
from jaxdistill.losses import boxes as geometry


@struct.dataclass
class Detections:
    """Boxes of an image, or of several with leading axes, the best score first.

    Attributes:
        boxes: `[*n, most, 4]`, (y_min, x_min, y_max, x_max) in fractions of the image; 0 in rows that fill the array.
        scores: `[*n, most]`, 0 in such rows.
        classes: int32 `[*n, most]`, -1 in such rows.
    """

    # Leaves of a tree: arrays of JAX or numpy, or their shapes.
    boxes: Any
    scores: Any
    classes: Any


@dataclasses.dataclass(frozen=True)
class Suppression:
    """Settings of detections: those of the authors of FCOS, for a fixed number of results.

    Attributes:
        least: a detection has a higher score.
        overlap: of two boxes of a class that overlap by a larger IoU, the one with the lower score is left out.
        candidates: number of pairs of a location and a class that are considered, those of the highest scores.
        most: number of detections of an image.
    """

    least: float = 0.05
    overlap: float = 0.6
    candidates: int = 1000
    most: int = 100


PUBLISHED = Suppression()


def scores(
    logits: Float[Array, "*n locations classes"], centerness: Float[Array, "*n locations"]
) -> Float[Array, "*n locations classes"]:
    """Returns the square root of the class's probability times the centre-ness."""
    logs = jax.nn.log_sigmoid(logits) + jax.nn.log_sigmoid(centerness)[..., None]
    return jnp.exp(logs / 2)


def suppress(
    boxes: Float[Array, "candidates 4"],
    scores: Float[Array, " candidates"],
    classes: Int[Array, " candidates"],
    settings: Suppression,
) -> Detections:
    """Returns the detections of one image: the best candidate, the best that does not overlap with it, and so on.

    Equal to torchvision's `batched_nms`; of candidates with equal scores the first counts.
    """
    most = settings.most

    def take(carry: tuple[Array, Detections], row: Array) -> tuple[tuple[Array, Detections], None]:
        remaining, results = carry
        best = jnp.argmax(remaining)
        is_one = remaining[best] > settings.least
        overlaps = geometry.iou(boxes[best][None], boxes) > settings.overlap
        removed = (overlaps & (classes == classes[best])) | (jnp.arange(len(boxes)) == best)
        results = Detections(
            results.boxes.at[row].set(jnp.where(is_one, boxes[best], 0)),
            results.scores.at[row].set(jnp.where(is_one, remaining[best], 0)),
            results.classes.at[row].set(jnp.where(is_one, classes[best], -1)),
        )
        return (jnp.where(removed, -jnp.inf, remaining), results), None

    empty = Detections(
        jnp.zeros((most, 4), boxes.dtype), jnp.zeros(most, scores.dtype), jnp.full(most, -1, classes.dtype)
    )
    (_, results), _ = jax.lax.scan(take, (scores, empty), jnp.arange(most))
    return results


def select(
    boxes: Float[Array, "batch locations 4"],
    scores: Float[Array, "batch locations classes"],
    settings: Suppression = PUBLISHED,
) -> Detections:
    """Returns the detections `[batch, most]` of boxes, cut at the borders of the image, with a score for each class."""
    boxes = jnp.clip(boxes, 0, 1)
    count = min(settings.candidates, scores.shape[-2] * scores.shape[-1])

    def of_image(boxes: Float[Array, "locations 4"], scores: Float[Array, "locations classes"]) -> Detections:
        best, index = jax.lax.top_k(scores.reshape(-1), count)
        location, label = jnp.divmod(index, scores.shape[-1])
        return suppress(boxes[location], best, label.astype(jnp.int32), settings)

    return jax.vmap(of_image)(boxes, scores)


def detect(output: Output, settings: Suppression = PUBLISHED) -> Detections:
    """Returns the detections `[batch, most]` of a detector's output.

    Args:
        output: logits `[batch, locations, classes]`, and the taps `boxes` and `centerness`.
        settings: of suppression.
    """
    return select(output.tap("boxes"), scores(core.dense(output.logits), output.tap("centerness")), settings)


def join(output: Output) -> Float[Array, "batch locations values"]:
    """Returns the box of each location and its score for each class, `[batch, locations, 4 + classes]`."""
    values = scores(core.dense(output.logits), output.tap("centerness"))
    return jnp.concatenate([output.tap("boxes"), values], -1)
