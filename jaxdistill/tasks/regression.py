"""Regression with a Gaussian: the mean and the log variance of a target."""

import dataclasses
from typing import ClassVar

from jaxdistill.data.dataset import Dataset
from jaxdistill.errors import UserError
from jaxdistill.metrics import Metric
from jaxdistill.networks import Ensemble
from jaxdistill.tasks.table import TableTask
from jaxdistill.tasks.task import Field, StageParts


class Regression(TableTask):
    """Fields `features`, `[width]`, `target`, a number, and `label`, 0 or -1 if the target is missing or hidden.

    A network outputs two numbers, the mean and the log variance of the target. Targets are standardised by the training
    split, and metrics are in their own units.
    """

    fields: ClassVar = TableTask.fields | {"target": Field(integer=False)}
    metric_names: ClassVar = ("rmse", "mae", "gaussian_nll", "gaussian_kl")
    reads_class_labels: ClassVar = False
    predictions: ClassVar = "gaussian"
    outputs: ClassVar = 2
    class_noun: ClassVar = "outputs per target"

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return "target" in dataset.fields

    @property
    def num_classes(self) -> int:
        return self.outputs

    def metric(self, name: str) -> Metric:
        metric = super().metric(name)
        featurizer = self.dataset.featurizer
        if not hasattr(metric, "scale"):
            return metric
        return dataclasses.replace(metric, form=self.predictions, scale=featurizer.target[1] if featurizer else 1.0)

    def check(self, parts: StageParts) -> None:
        super().check(parts)
        for name, source in parts.networks.items():
            if isinstance(source, Ensemble) and source.average == "probabilities":
                options = ("gaussian", "logits") if self.predictions == "gaussian" else ("logits",)
                raise UserError(
                    f"networks.{name}.average must be one of {options} for task {self.name!r}, got 'probabilities',"
                    " which are those of classes. Set it"
                )
