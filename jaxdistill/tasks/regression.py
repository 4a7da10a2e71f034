"""Regression with Gaussians: the mean and the log variance of each target."""

import dataclasses
from typing import ClassVar

from jaxdistill.data.dataset import Dataset
from jaxdistill.metrics import Metric
from jaxdistill.tasks.any_input import AnyInputTask
from jaxdistill.tasks.task import Field


class Regression(AnyInputTask):
    """Fields `target`, `[targets]`, and `label`, 0 or -1 if all targets are missing or hidden, beside the inputs.

    A network outputs two numbers for each target, the mean and the log variance. Targets are standardised by the
    training split, and metrics are in their own units. A missing target is NaN.
    """

    supervision: ClassVar = {"target": Field(("targets",), integer=False), "label": Field()}
    mixed: ClassVar = ("target",)
    metric_names: ClassVar = ("rmse", "mae", "r2", "gaussian_nll", "gaussian_kl", "per_target")
    figures: ClassVar = ("targets",)
    reads_class_labels: ClassVar = False
    predictions: ClassVar = "gaussian"
    averages: ClassVar = ("gaussian", "logits")
    outputs: ClassVar = 2
    class_noun: ClassVar = "outputs"

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return "target" in dataset.fields

    @property
    def num_classes(self) -> int:
        return self.outputs * self.dataset.fields["target"][0][0]

    @property
    def choices(self) -> str:
        number = self.dataset.fields["target"][0][0]
        return f"{super().choices} for {number} target" + "s" * (number != 1)

    def metric(self, name: str) -> Metric:
        metric = super().metric(name)
        if not hasattr(metric, "scale"):
            return metric
        scale = tuple(target.scale for target in self.dataset.targets) or (1.0,)
        return dataclasses.replace(metric, form=self.predictions, scale=scale)
