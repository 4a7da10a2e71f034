"""Classification with several labels: each class of an example is a decision of its own."""

from typing import ClassVar

from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.any_input import AnyInputTask
from jaxdistill.tasks.task import Field


class MultiLabel(AnyInputTask):
    """Fields `labels`, `[classes]`, and `label`, 0 or -1 if all labels are missing or hidden, beside the inputs.

    A label is 1 if the example has the class, 0 if it has not, and NaN if that is missing. A network outputs one logit
    for each class.
    """

    supervision: ClassVar = {"labels": Field(("classes",), integer=False), "label": Field()}
    mixed: ClassVar = ("labels",)
    metric_names: ClassVar = (
        *("average_precision", "auroc", "macro_f1", "micro_f1", "subset_accuracy", "label_accuracy", "binary_nll"),
        *("label_agreement", "binary_kl", "per_label"),
    )
    preferred: ClassVar = ("average_precision",)
    figures: ClassVar = ("labels",)
    predictions: ClassVar = "labels"
    averages: ClassVar = ("logits",)
    class_noun: ClassVar = "labels"

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return "labels" in dataset.fields
