"""Image classification: one class per image."""

from typing import ClassVar

from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.image import PICTURES, ImageTask
from jaxdistill.tasks.task import Field

CLASSIFICATION_FIGURES = ("confusion", "classes", "calibration")

CLASSIFICATION_METRICS = (
    "accuracy",
    "top5",
    "precision",
    "recall",
    "f1",
    "nll",
    "ece",
    "agreement",
    "overlap5",
    "kl",
    "ece_gap",
    "copied_errors",
    "accuracy_where_right",
    "accuracy_where_wrong",
    "cka",
    "per_class",
    "confusion",
    "reliability",
)


class ImageClassification(ImageTask):
    """Fields `image` `[height, width, channels]`, uint8 or float in [0, 1], and `label`."""

    fields: ClassVar = {"image": Field(("height", "width", "channels"), integer=False), "label": Field()}
    metric_names: ClassVar = CLASSIFICATION_METRICS
    figures: ClassVar = (*CLASSIFICATION_FIGURES, *PICTURES)

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return {*dataset.fields} == {"image", "label"}
