"""Classification of rows of tables."""

from typing import ClassVar

from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.image_classification import CLASSIFICATION_FIGURES, CLASSIFICATION_METRICS
from jaxdistill.tasks.table import TableTask


class TableClassification(TableTask):
    """Fields `features`, `[width]`, and `label`."""

    metric_names: ClassVar = CLASSIFICATION_METRICS
    figures: ClassVar = CLASSIFICATION_FIGURES

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return "features" in dataset.fields and not {"labels", "target"} & {*dataset.fields}
