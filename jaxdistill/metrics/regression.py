"""Metrics of predicted numbers against targets, in the units of the targets."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.losses import regression
from jaxdistill.metrics.fidelity import FidelityRatio
from jaxdistill.metrics.metric import Metric, Ratio, labelled, total, valid


@dataclasses.dataclass(frozen=True)
class TargetRatio(Ratio):
    """A mean over predictions with a target.

    Attributes:
        form: of the predictions, "gaussian" or "quantiles"; the task sets it.
        scale: the standard deviation by which targets are divided; the task sets it.
    """

    form: str = "gaussian"
    scale: float = 1.0
    better = "min"

    @property
    def predictions(self) -> str:
        """The form of predictions that it measures."""
        return self.form


@dataclasses.dataclass(frozen=True)
class RMSE(TargetRatio):
    """The root of the mean squared difference of the distribution's mean and the target."""

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        error = regression.mean_of(core.dense(output.logits), self.form) - batch["target"]
        return total(error**2, labelled(batch))

    def finish(self, sums: Mapping[str, Any]) -> float:
        return self.scale * float(np.sqrt(super().finish(sums)))


@dataclasses.dataclass(frozen=True)
class MAE(TargetRatio):
    """The mean absolute difference of the distribution's median and the target."""

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        error = regression.median_of(core.dense(output.logits), self.form) - batch["target"]
        return total(jnp.abs(error), labelled(batch))

    def finish(self, sums: Mapping[str, Any]) -> float:
        return self.scale * super().finish(sums)


@dataclasses.dataclass(frozen=True)
class GaussianNLL(TargetRatio):
    """The mean negative log-likelihood of the target under the predicted Gaussian, in nats."""

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return total(regression.gaussian_nll(core.dense(output.logits), batch["target"]), labelled(batch))

    def finish(self, sums: Mapping[str, Any]) -> float:
        return super().finish(sums) + math.log(self.scale)  # the density of y is that of y / scale, over scale


@dataclasses.dataclass(frozen=True)
class Pinball(TargetRatio):
    """The mean pinball loss of the predicted quantiles; the median alone has half the absolute error."""

    form: str = "quantiles"

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return total(regression.pinball(core.dense(output.logits), batch["target"]), labelled(batch))

    def finish(self, sums: Mapping[str, Any]) -> float:
        return self.scale * super().finish(sums)


@dataclasses.dataclass(frozen=True)
class GaussianKL(FidelityRatio):
    """The mean of KL(reference || network) between predicted Gaussians, in nats."""

    better = "min"
    needs_labels = False
    predictions = "gaussian"

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        return total(regression.gaussian_kl(core.dense(reference.logits), core.dense(output.logits)), valid(batch))


METRICS: dict[str, Metric] = {
    "rmse": RMSE(),
    "mae": MAE(),
    "gaussian_nll": GaussianNLL(),
    "pinball": Pinball(),
    "gaussian_kl": GaussianKL(),
}
