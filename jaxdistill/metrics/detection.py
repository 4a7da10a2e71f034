"""Average precision of a detector: its detections are gathered image by image, and matched on the host."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.losses import boxes
from jaxdistill.metrics import coco
from jaxdistill.metrics.metric import Ratio, total, valid
from jaxdistill.modules import nms


@struct.dataclass
class ImageRows:
    """Boxes and detections of images.

    Attributes:
        detections: `[images, most]`.
        boxes: `[images, n, 4]`, as of a batch.
        label: int32 `[images, n]`, -1 for padding.
        crowd: int32 `[images, n]`.
        size: int32 `[images, 2]`, height and width in pixels.
        classes: number of classes.
    """

    detections: nms.Detections
    boxes: jax.Array
    label: jax.Array
    crowd: jax.Array
    size: jax.Array
    classes: int = struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True)
class Gather:
    """Detections and boxes of every image, and the precisions of all classes; metrics of one `name` share them."""

    settings: nms.Suppression = nms.PUBLISHED
    name: str = "detections"

    def rows(self, output: Output, batch: Batch) -> ImageRows:
        size = jnp.array(batch["image"].shape[1:3], jnp.int32)
        return ImageRows(
            detections=nms.detect(output, self.settings),
            boxes=batch["boxes"],
            label=batch["box_label"],
            crowd=batch["box_crowd"],
            size=jnp.broadcast_to(size[None], (len(batch["boxes"]), 2)),
            classes=core.num_classes(output.logits),
        )

    def summarize(self, rows: ImageRows) -> np.ndarray:
        """Returns the precisions `[classes, sizes, thresholds, recalls]` of a split (`coco.precisions`)."""
        images = [coco_image(jax.tree.map(lambda x, place=place: x[place], rows)) for place in range(len(rows.size))]
        return coco.precisions(images, rows.classes)


def coco_image(rows: ImageRows) -> coco.Image:
    """Returns one image with boxes in pixels, without the rows that fill the arrays."""
    height, width = (float(side) for side in rows.size)

    def in_pixels(boxes: np.ndarray) -> np.ndarray:
        boxes = np.asarray(boxes, np.float64) * [height, width, height, width]
        return np.stack([boxes[:, 1], boxes[:, 0], boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], -1)

    real, is_one = np.asarray(rows.label) >= 0, np.asarray(rows.detections.classes) >= 0
    return coco.Image(
        truth=in_pixels(rows.boxes[real]),
        label=rows.label[real],
        crowd=rows.crowd[real] > 0,
        boxes=in_pixels(rows.detections.boxes[is_one]),
        classes=rows.detections.classes[is_one],
        scores=np.asarray(rows.detections.scores, np.float64)[is_one],
    )


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """COCO's average precision: over classes, recalls, and IoU thresholds of 0.5, 0.55 .. 0.95 or one of them.

    Classes without a box in the range of sizes do not count, whose areas are in pixels of the dataset's images. In
    an image without boxes every detection is wrong.

    Attributes:
        threshold: one of `coco.THRESHOLDS`, or 0 for all.
        size: one of `coco.SIZES`.
    """

    threshold: float = 0.0
    size: str = "all"
    gather: Gather = Gather()
    better, needs_reference, needs_labels, predictions = "max", False, False, "boxes"

    def finish(self, summary: np.ndarray) -> float:
        """Returns the mean precision, nan if no class has boxes."""
        values = _select(summary, self.threshold, self.size)
        counted = ~np.isnan(values)
        return float(np.mean(values[counted])) if counted.any() else float("nan")


@dataclasses.dataclass(frozen=True)
class PrecisionPerClass:
    """`finish` returns `{"map": [classes], "map50": .., "map75": ..}`; None for a class without boxes."""

    gather: Gather = Gather()
    better, needs_reference, needs_labels, predictions = None, False, False, "boxes"
    is_table = True

    def finish(self, summary: np.ndarray) -> dict[str, list[float | None]]:
        def by_class(threshold: float) -> list[float | None]:
            values = _select(summary, threshold, "all").reshape(len(summary), -1)
            return [None if np.isnan(row).any() else float(np.mean(row)) for row in values]

        return {"map": by_class(0), "map50": by_class(0.5), "map75": by_class(0.75)}


@dataclasses.dataclass(frozen=True)
class BoxAgreement(Ratio):
    """The fraction of the detections of two networks that the other one has too: of the class, with an IoU of 0.5.

    Detections with scores below `least` do not count. If neither network has any, neither does the image.

    Attributes:
        least: score.
        overlap: IoU.
    """

    least: float = 0.3
    overlap: float = 0.5
    needs_reference, needs_labels, same_classes, predictions = True, False, True, "boxes"

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        left, right = (nms.detect(side) for side in (output, reference))
        overlaps = boxes.iou(left.boxes[:, :, None], right.boxes[:, None])
        counted = [(side.scores >= self.least) & valid(batch)[:, None] for side in (left, right)]
        matches = (overlaps >= self.overlap) & (left.classes[:, :, None] == right.classes[:, None])
        matches &= counted[0][:, :, None] & counted[1][:, None]
        has_match = [jnp.any(matches, axis) for axis in (2, 1)]
        sides = [total(values, counts) for values, counts in zip(has_match, counted, strict=True)]
        return jax.tree.map(jnp.add, *sides)


def _select(summary: np.ndarray, threshold: float, size: str) -> Any:
    of_size = summary[:, [*coco.SIZES].index(size)]
    return of_size if not threshold else of_size[:, int(np.argmin(np.abs(coco.THRESHOLDS - threshold)))]


METRICS = {
    "map": AveragePrecision(),
    "map50": AveragePrecision(0.5),
    "map75": AveragePrecision(0.75),
    "map_small": AveragePrecision(size="small"),
    "map_medium": AveragePrecision(size="medium"),
    "map_large": AveragePrecision(size="large"),
    "map_per_class": PrecisionPerClass(),
    "box_agreement": BoxAgreement(),
}
