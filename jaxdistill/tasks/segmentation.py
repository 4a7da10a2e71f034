"""Semantic segmentation: one class per pixel."""

import dataclasses
from typing import ClassVar

from jaxdistill.core import Batch
from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.dense import IMAGE, DenseTask
from jaxdistill.tasks.task import Field


@dataclasses.dataclass(frozen=True)
class Segmentation(DenseTask):
    """Fields `image` `[height, width, channels]`, uint8 or float in [0, 1], and `label_map` `[height, width]`."""

    fields: ClassVar = IMAGE | {"label_map": Field(("height", "width"))}
    moving: ClassVar = ("label_map",)
    axes: ClassVar = ("example", "row", "pixel")
    metric_names: ClassVar = (
        "mean_iou",
        "accuracy",
        "boundary_f1",
        "nll",
        "agreement",
        "kl",
        "per_class_iou",
        "confusion",
    )
    preferred: ClassVar = ("mean_iou",)
    remedy: ClassVar = "Use a network that predicts every pixel."

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return {*dataset.fields} == {"image", "label_map"}

    def align(self, batch: Batch) -> Batch:
        """Adds the class of each pixel as `label`, and its `valid`, 0 for void, `[batch, height, width]`."""
        label = batch["label_map"]
        return {**batch, "label": label, "valid": batch["mask"][:, None, None] * (label >= 0)}
