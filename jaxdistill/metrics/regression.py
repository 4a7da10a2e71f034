"""Metrics of predicted numbers against targets, in the units of the targets.

Of several targets each has its own value, and a metric is their mean, scikit-learn's `multioutput="uniform_average"`.
"""

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
from jaxdistill.metrics.metric import Metric, labelled, ratio, total, valid
from jaxdistill.modules.regression_method import split_targets


@dataclasses.dataclass(frozen=True)
class TargetMean:
    """The mean over targets of a number of each.

    Attributes:
        form: of the predictions, "gaussian" or "quantiles"; the task sets it.
        scale: the standard deviation by which each target is divided; the task sets it.
    """

    form: str = "gaussian"
    scale: tuple[float, ...] = (1.0,)
    better, needs_reference, needs_labels = "min", False, True

    @property
    def predictions(self) -> str:
        """The form of predictions that it measures."""
        return self.form

    def finish(self, sums: Mapping[str, Any]) -> float:
        """Returns the mean over the targets that any prediction has."""
        values, is_present = self.by_target(sums), np.asarray(sums["count"]) > 0
        return float(ratio(np.sum(values[is_present]), np.sum(is_present)))

    def by_target(self, sums: Mapping[str, Any]) -> np.ndarray:
        """Returns the number of each target, float64 `[targets]`."""
        raise NotImplementedError


def target_sums(values: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Returns the sums over predictions of values `[*n, targets]`, and the numbers of present targets, `[targets]`."""
    counted = labelled(batch)[..., None] & ~jnp.isnan(batch["target"])
    axes = tuple(range(counted.ndim - 1))
    return {"sum": jnp.sum(jnp.where(counted, values, 0.0), axes), "count": jnp.sum(counted, axes)}


def present_targets(batch: Batch) -> jax.Array:
    """Returns the targets, 0 for missing ones."""
    return jnp.where(jnp.isnan(batch["target"]), 0.0, batch["target"])


SCORED = ("label", "target", "numbers")
"""The arrays that metrics score examples by (`metric.ExampleMetric`)."""


def read_stored(arrays: Mapping[str, np.ndarray]) -> tuple[jax.Array, jax.Array, np.ndarray]:
    """Returns numbers, targets with 0 for missing ones, and which targets count, bool `[examples, targets]`."""
    counted = (arrays["label"] != core.UNLABELLED)[:, None] & ~np.isnan(arrays["target"])
    return jnp.asarray(arrays["numbers"]), jnp.nan_to_num(arrays["target"]), counted


def average_targets(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Returns scores of examples whose mean is that over targets of the means of values, `[examples, targets]`.

    An example counts for each of its targets by the inverse of their number; it is NaN without any that counts.
    """
    examples, counts = counted.any(-1), counted.sum(0)
    weights = ratio(examples.sum(), counts, empty=0.0) / max(np.sum(counts > 0), 1)
    scores = np.sum(np.where(counted, values, 0.0) * weights, -1, dtype=np.float64)
    return np.where(examples, scores, np.nan)


def numbers_of(output: Output, batch: Batch) -> jax.Array:
    """Returns the numbers of each target's distribution, `[*n, targets, numbers]`."""
    return split_targets(core.dense(output.logits), batch["target"].shape[-1])


@dataclasses.dataclass(frozen=True)
class RMSE(TargetMean):
    """The root of the mean squared difference of the distribution's mean and the target."""

    scored = SCORED

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        error = regression.mean_of(numbers_of(output, batch), self.form) - present_targets(batch)
        return target_sums(error**2, batch)

    def by_target(self, sums: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(self.scale) * np.sqrt(ratio(sums["sum"], sums["count"]))

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns, for errors e of a target and their root r, (r + e^2 / r) / 2: the root to first order in e^2."""
        numbers, target, counted = read_stored(arrays)
        squared = np.asarray(regression.mean_of(numbers, self.form) - target, np.float64) ** 2
        root = np.sqrt(ratio(np.sum(squared, 0, where=counted), counted.sum(0), empty=0.0))
        values = (root + ratio(squared, root, empty=0.0)) / 2
        return average_targets(self.scale * values, counted)


@dataclasses.dataclass(frozen=True)
class MAE(TargetMean):
    """The mean absolute difference of the distribution's median and the target."""

    scored = SCORED

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        error = regression.median_of(numbers_of(output, batch), self.form) - present_targets(batch)
        return target_sums(jnp.abs(error), batch)

    def by_target(self, sums: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(self.scale) * ratio(sums["sum"], sums["count"])

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        numbers, target, counted = read_stored(arrays)
        error = np.asarray(regression.median_of(numbers, self.form) - target)
        return average_targets(self.scale * np.abs(error), counted)


@dataclasses.dataclass(frozen=True)
class R2(TargetMean):
    """The fraction of the target's variance that the distribution's mean explains; 0 for a constant prediction.

    It is 1 minus the squared error over that of the split's own mean, and below 0 for a network that is worse.
    A target that is constant in the split has none, and does not count.
    """

    better = "max"

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        target = present_targets(batch)
        error = regression.mean_of(numbers_of(output, batch), self.form) - target
        parts = {"error": error**2, "first": target, "second": target**2}
        summed = {name: target_sums(values, batch) for name, values in parts.items()}
        return {name: part["sum"] for name, part in summed.items()} | {"count": summed["error"]["count"]}

    def finish(self, sums: Mapping[str, Any]) -> float:
        values = self.by_target(sums)
        is_present = ~np.isnan(values)
        return float(ratio(np.sum(values[is_present]), np.sum(is_present)))

    def by_target(self, sums: Mapping[str, Any]) -> np.ndarray:
        spread = np.asarray(sums["second"]) - ratio(np.asarray(sums["first"]) ** 2, sums["count"])
        # In float32 the two sums of a constant target differ by their rounding.
        spread = np.where(spread > SPREAD * np.asarray(sums["second"]), spread, 0.0)
        return 1 - ratio(sums["error"], spread)


SPREAD = 1e-6
"""The least variance of a target in a split, relative to its square, from which on R2 is computed."""


@dataclasses.dataclass(frozen=True)
class PerTarget:
    """RMSE, MAE and R2 of each target, and the number of predictions that have it ("examples").

    `finish` returns `{"rmse": [targets], "mae": ..., "r2": ..., "examples": ...}`; None for a target without examples.
    """

    form: str = "gaussian"
    scale: tuple[float, ...] = (1.0,)
    better, needs_reference, needs_labels = None, False, True
    is_table = True

    @property
    def predictions(self) -> str:
        """The form of predictions that it measures."""
        return self.form

    @property
    def parts(self) -> dict[str, TargetMean]:
        """The metrics that it lists, by name."""
        return {name: member(self.form, self.scale) for name, member in (("rmse", RMSE), ("mae", MAE), ("r2", R2))}

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, Any]:
        return {name: part.sums(output, batch) for name, part in self.parts.items()}

    def finish(self, sums: Mapping[str, Any]) -> dict[str, list]:
        values = {name: part.by_target(sums[name]).tolist() for name, part in self.parts.items()}
        table = {name: [None if math.isnan(x) else x for x in column] for name, column in values.items()}
        return table | {"examples": np.asarray(sums["rmse"]["count"]).astype(np.int64).tolist()}


@dataclasses.dataclass(frozen=True)
class GaussianNLL(TargetMean):
    """The mean negative log-likelihood of the target under the predicted Gaussian, in nats."""

    scored = SCORED

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return target_sums(regression.gaussian_nll(numbers_of(output, batch), present_targets(batch)), batch)

    def by_target(self, sums: Mapping[str, Any]) -> np.ndarray:
        # The density of y is that of y / scale, over scale.
        return ratio(sums["sum"], sums["count"]) + np.log(self.scale)

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        numbers, target, counted = read_stored(arrays)
        return average_targets(np.asarray(regression.gaussian_nll(numbers, target)) + np.log(self.scale), counted)


@dataclasses.dataclass(frozen=True)
class Pinball(TargetMean):
    """The mean pinball loss of the predicted quantiles; the median alone has half the absolute error."""

    form: str = "quantiles"
    scored = SCORED

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return target_sums(regression.pinball(numbers_of(output, batch), present_targets(batch)), batch)

    def by_target(self, sums: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(self.scale) * ratio(sums["sum"], sums["count"])

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        numbers, target, counted = read_stored(arrays)
        return average_targets(self.scale * np.asarray(regression.pinball(numbers, target)), counted)


@dataclasses.dataclass(frozen=True)
class GaussianKL(FidelityRatio):
    """The mean of KL(reference || network) between predicted Gaussians, in nats; of several targets the mean."""

    better = "min"
    needs_labels = False
    predictions = "gaussian"

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        left, right = (core.dense(side.logits) for side in (reference, output))
        pairs = [split_targets(logits, logits.shape[-1] // 2) for logits in (left, right)]
        return total(jnp.mean(regression.gaussian_kl(*pairs), -1), valid(batch))


METRICS: dict[str, Metric] = {
    "rmse": RMSE(),
    "mae": MAE(),
    "r2": R2(),
    "per_target": PerTarget(),
    "gaussian_nll": GaussianNLL(),
    "pinball": Pinball(),
    "gaussian_kl": GaussianKL(),
}
