"""Regression with Gaussians: the mean and the log variance of each target."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import Batch, Output, dense
from jaxdistill.data.dataset import Dataset, Target
from jaxdistill.losses import regression
from jaxdistill.metrics import Metric
from jaxdistill.modules.regression_method import split_targets
from jaxdistill.tasks.any_input import AnyInputTask
from jaxdistill.tasks.task import Field


class Regression(AnyInputTask):
    """Fields `target`, `[targets]`, and `label`, 0 or -1 if all targets are missing or hidden, beside the inputs.

    A network outputs two numbers for each target, the mean and the log variance. Targets are standardised by the
    training split, and metrics are in their own units. A missing target is NaN.
    """

    supervision: ClassVar = {"target": Field(("targets",), integer=False), "label": Field()}
    mixed: ClassVar = ("target",)
    truth: ClassVar = ("target",)
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

    def predict(self, output: Output, batch: Batch) -> dict[str, jax.Array]:
        """Returns `numbers` of each target's distribution, standardised, `[batch, targets, outputs]`."""
        return {"numbers": split_targets(dense(output.logits), batch["target"].shape[-1])}

    def in_units(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns `target` and, in the place of numbers, `mean` and what else the form has, float64.

        All are in the units of the data, `[examples, targets]` or, of several numbers, `[examples, targets, ...]`.
        """
        targets = self.dataset.targets or (Target("", 0.0, 1.0),) * self.dataset.fields["target"][0][0]
        shift, scale = (np.array([getattr(target, key) for target in targets]) for key in ("mean", "scale"))
        result = {"target": shift + scale * arrays["target"]} if "target" in arrays else {}
        if "numbers" in arrays:
            mean = np.asarray(regression.mean_of(jnp.asarray(arrays["numbers"]), self.predictions), np.float64)
            result |= {"mean": shift + scale * mean} | self.spread(arrays["numbers"], shift=shift, scale=scale)
        return result

    def spread(self, numbers: np.ndarray, *, shift: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the arrays of a distribution beside its mean, in the units of the data: here the `deviation`."""
        log_variance = np.asarray(regression.gaussian(jnp.asarray(numbers))[1], np.float64)
        return {"deviation": scale * np.exp(log_variance / 2)}
