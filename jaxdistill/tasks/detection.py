"""Object detection: boxes and their classes."""

import dataclasses
from typing import ClassVar

from jaxdistill.core import Batch
from jaxdistill.data.dataset import Dataset
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
    axes: ClassVar = ("example", "location")
    metric_names: ClassVar = ("agreement", "kl")
    remedy: ClassVar = "Use a network that predicts boxes."

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return {*dataset.fields} == {"image", "boxes", "box_label", "box_crowd"}

    def align(self, batch: Batch) -> Batch:
        """Adds the class of each box as `label`, and its `valid`, 0 for no box and for crowds, `[batch, most]`."""
        label = batch["box_label"]
        return {**batch, "label": label, "valid": batch["mask"][:, None] * ((label >= 0) & (batch["box_crowd"] == 0))}
