"""Metrics of a class per pixel: intersection over union, and F1 of boundaries."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.metrics.classification import class_counts
from jaxdistill.metrics.metric import Metric, Ratio, labelled, predicted, ratio

TOLERANCE = 0.0075
"""Distance of matching boundaries, as a fraction of the diagonal of the image: Csurka et al. 2013."""


def intersection_over_union(counts: Mapping[str, Any], empty: float = np.nan) -> np.ndarray:
    """Returns each class's IoU, `[classes]`: pixels of both over pixels of either; `empty` for a class of neither."""
    return ratio(counts["right"], counts["label"] + counts["predicted"] - counts["right"], empty=empty)


@dataclasses.dataclass(frozen=True)
class MeanIoU:
    """Intersection over union of each class over all pixels of the split, averaged over classes.

    Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010. A class that is neither a label nor
    predicted does not count: scikit-learn's `jaccard_score(average="macro")`, and mmsegmentation's `mIoU`.
    """

    better, needs_reference, needs_labels = "max", False, True

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return class_counts(output, batch)

    def finish(self, sums: Mapping[str, Any]) -> float:
        values = intersection_over_union(sums)
        return float(ratio(np.nansum(values), np.sum(np.isfinite(values))))


@dataclasses.dataclass(frozen=True)
class PerClassIoU:
    """IoU and accuracy of every class, and the number of pixels whose label it is.

    `finish` returns `{"iou": [classes], "accuracy": ..., "pixels": ...}`; what divides by 0 is 0. The accuracy of a
    class is the fraction of its pixels that are predicted as it.
    """

    better, needs_reference, needs_labels = None, False, True
    is_table = True

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return class_counts(output, batch)

    def finish(self, sums: Mapping[str, Any]) -> dict[str, list]:
        accuracy = ratio(sums["right"], sums["label"], empty=0.0)
        return {
            "iou": intersection_over_union(sums, empty=0.0).tolist(),
            "accuracy": accuracy.tolist(),
            "pixels": np.asarray(sums["label"]).astype(np.int64).tolist(),
        }


@dataclasses.dataclass(frozen=True)
class BoundaryF1(Ratio):
    """F1 of the boundaries of classes, averaged over the classes of an image and over images.

    Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013,
    https://www.bmva.org/bmvc/2013/Papers/paper0032/. A pixel is on the
    boundary of its class if one of its four neighbours is of another class; the border of the image and void pixels
    make no boundary, and void pixels have no class, in predictions too. Precision is the fraction of predicted boundary
    pixels of a class within a distance of `tolerance` diagonals of a boundary pixel of this class in the labels,
    rounded up to whole pixels; recall is the same in the other direction. Their F1 is 0 for a class that has a boundary
    on one side alone; one without any does not count, nor does an image without any.
    """

    predictions = "pixels"
    tolerance: float = TOLERANCE

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        classes, counted = core.num_classes(output.logits), labelled(batch)
        maps = (jnp.where(counted, x, core.UNLABELLED) for x in (predicted(output), batch["label"]))
        sides = [boundaries(x, classes) for x in maps]
        radius = math.ceil(self.tolerance * math.hypot(*counted.shape[1:3]))
        total, matched = [], []
        for side, opposite in (sides, sides[::-1]):
            total.append(jnp.sum(side, (1, 2)))
            matched.append(jnp.sum(side & dilate(opposite, radius), (1, 2)))
        precision, recall = (m / jnp.maximum(n, 1) for m, n in zip(matched, total, strict=True))
        f1 = 2 * precision * recall / jnp.maximum(precision + recall, 1e-12)
        occurs = (total[0] + total[1]) > 0
        of_image = jnp.sum(jnp.where(occurs, f1, 0.0), -1) / jnp.maximum(jnp.sum(occurs, -1), 1)
        counts = jnp.any(occurs, -1)
        return {"sum": jnp.sum(jnp.where(counts, of_image, 0.0)), "count": jnp.sum(counts)}


def boundaries(label: jax.Array, classes: int) -> jax.Array:
    """Returns whether a pixel is on the boundary of a class, bool `[batch, height, width, classes]`.

    Args:
        label: `[batch, height, width]`, -1 for pixels of no class.
        classes: their number.
    """
    differs = jnp.zeros(label.shape, bool)
    for axis in (1, 2):
        first, last = (jax.lax.slice_in_dim(label, *ends, axis=axis) for ends in ((0, -1), (1, None)))
        changes = (first != last) & (first >= 0) & (last >= 0)
        before, after = ([(0, 0)] * 3 for _ in range(2))
        before[axis], after[axis] = (1, 0), (0, 1)
        differs |= jnp.pad(changes, before) | jnp.pad(changes, after)
    return differs[..., None] & (jax.nn.one_hot(label, classes) > 0)


def dilate(x: jax.Array, radius: int) -> jax.Array:
    """Returns whether a true pixel lies within a distance of `radius` pixels, bool `[batch, height, width, maps]`."""
    height, result = x.shape[1], jnp.zeros(x.shape, bool)
    for offset in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        side = math.isqrt(radius**2 - offset**2)
        wide = jax.lax.reduce_window(
            x,
            False,
            jax.lax.bitwise_or,
            window_dimensions=(1, 1, 2 * side + 1, 1),
            window_strides=(1, 1, 1, 1),
            padding="SAME",
        )
        rows = jnp.pad(wide, ((0, 0), (max(offset, 0), max(-offset, 0)), (0, 0), (0, 0)))
        result |= rows[:, max(-offset, 0) : max(-offset, 0) + height]
    return result


METRICS: dict[str, Metric] = {
    "mean_iou": MeanIoU(),
    "per_class_iou": PerClassIoU(),
    "boundary_f1": BoundaryF1(),
}
