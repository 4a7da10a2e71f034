"""Text classification: one class per text."""

from typing import ClassVar

from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.image_classification import CLASSIFICATION_FIGURES, CLASSIFICATION_METRICS
from jaxdistill.tasks.text import TEACHER_FIELDS, TEXT_FIELDS, TextTask


class TextClassification(TextTask):
    """Fields `tokens`, `token_mask` and `segment`, `[length]` each, and `label`.

    The same names with `teacher_` are the text in the teacher's own tokens.
    """

    fields: ClassVar = TEXT_FIELDS | TEACHER_FIELDS
    metric_names: ClassVar = CLASSIFICATION_METRICS
    figures: ClassVar = CLASSIFICATION_FIGURES
    remedy: ClassVar = "Use a network with one prediction per text, or set task='language_model'."

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return "tokens" in dataset.fields and "targets" not in dataset.fields and bool(dataset.class_names)
