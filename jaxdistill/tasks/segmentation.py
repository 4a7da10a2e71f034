"""Semantic segmentation: one class per pixel."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch, Output
from jaxdistill.data.dataset import Dataset
from jaxdistill.metrics.metric import predicted
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
    figures: ClassVar = ("confusion", "iou", "label_maps")
    pictured_fields: ClassVar = ("image", "label_map")
    remedy: ClassVar = "Use a network that predicts every pixel."

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return {*dataset.fields} == {"image", "label_map"}

    def align(self, batch: Batch) -> Batch:
        """Adds the class of each pixel as `label`, and its `valid`, 0 for void, `[batch, height, width]`."""
        label = batch["label_map"]
        return {**batch, "label": label, "valid": batch["mask"][:, None, None] * (label >= 0)}

    def picture(self, output: Output, batch: Batch) -> dict[str, jax.Array]:
        """Returns the class of each pixel as `label_map`."""
        return {"label_map": predicted(output).astype(jnp.int16)}
