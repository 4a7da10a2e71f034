"""Object detection: boxes and their classes."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxdistill.core import UNLABELLED, Batch, Output
from jaxdistill.data.dataset import Dataset
from jaxdistill.data.dense import BOX_FIELDS
from jaxdistill.modules import nms
from jaxdistill.tasks.dense import IMAGE, DenseTask
from jaxdistill.tasks.task import Field


@dataclasses.dataclass(frozen=True)
class Detection(DenseTask):
    """Fields `image` `[height, width, channels]`, uint8 or float in [0, 1], and its boxes.

    `boxes` `[most, 4]` are top, left, bottom and right divided by the image's height or width; `box_label` `[most]` is
    -1 for rows that fill the array; `box_crowd` `[most]` is 1 for regions of many objects, which are no target.
    """

    fields: ClassVar = IMAGE | {
        "boxes": Field(("most", "sides"), integer=False),
        "box_label": Field(("most",)),
        "box_crowd": Field(("most",)),
    }
    moving: ClassVar = BOX_FIELDS
    axes: ClassVar = ("example", "location")
    metric_names: ClassVar = (
        "map",
        "map50",
        "map75",
        "map_small",
        "map_medium",
        "map_large",
        "map_per_class",
        "box_agreement",
    )
    predictions: ClassVar = "boxes"
    preferred: ClassVar = ("map",)
    figures: ClassVar = ("precision", "boxes")
    pictured_fields: ClassVar = ("image", "boxes", "box_label", "box_crowd")
    remedy: ClassVar = "Use a network that predicts boxes."

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return {*dataset.fields} == {"image", "boxes", "box_label", "box_crowd"}

    def align(self, batch: Batch) -> Batch:
        """Adds `label` `[batch, most]`, the class of each box that is a target, and `valid` `[batch]`.

        -1 fills the array, and stands in the place of crowds. Every location of an image counts, with a box or without.
        """
        return {
            **batch,
            "label": jnp.where(batch["box_crowd"] > 0, UNLABELLED, batch["box_label"]),
            "valid": batch["mask"],
        }

    def picture(self, output: Output, batch: Batch) -> dict[str, jax.Array]:
        """Returns the detections: `boxes` `[batch, most, 4]`, and their `box_classes` and `box_scores`."""
        detections = nms.detect(output)
        return {"boxes": detections.boxes, "box_classes": detections.classes, "box_scores": detections.scores}
