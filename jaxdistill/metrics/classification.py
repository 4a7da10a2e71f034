"""Metrics of predicted classes against labels."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.metrics.metric import Metric, Ratio, labelled, map_predictions, predicted, ratio, total


@dataclasses.dataclass(frozen=True)
class TopK(Ratio):
    """The fraction of predictions whose label is among the `k` largest logits; `k = 1` is accuracy.

    For `k = 1` the prediction is the argmax, as in confusion and agreement. Otherwise a label counts if fewer than `k`
    logits are strictly greater than its own, so that ties are in its favour; with `k` classes or fewer the value is 1.
    """

    k: int

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        if self.k == 1:
            return total(predicted(output) == batch["label"], labelled(batch))

        def rank(logits: jax.Array, label: jax.Array) -> jax.Array:
            logit = jnp.take_along_axis(logits, jnp.maximum(label, 0)[..., None], -1)
            return jnp.sum(~(logits <= logit), -1)  # a nan is not <= anything, hence not in its own favour

        return total(map_predictions(rank, output, batch["label"]) < self.k, labelled(batch))


@dataclasses.dataclass(frozen=True)
class Accuracy(TopK):
    """The fraction of predictions whose class is the label."""

    k: int = 1
    scored = ("label", "prediction")

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        label = arrays["label"]
        return np.where(label == core.UNLABELLED, np.nan, arrays["prediction"] == label)


def class_counts(output: Output, batch: Batch) -> dict[str, jax.Array]:
    """Counts for each class how often it is the label, is predicted, and both, int32 `[classes]` each."""
    classes = core.num_classes(output.logits)
    label, prediction, counted = (x.reshape(-1) for x in (batch["label"], predicted(output), labelled(batch)))

    def per_class(classes_of: jax.Array, which: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(which.astype(jnp.int32), classes_of, classes)

    return {
        "label": per_class(label, counted),
        "predicted": per_class(prediction, counted),
        "right": per_class(label, counted & (label == prediction)),
    }


def class_scores(counts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns each class's precision, recall and f1, `[classes]`, as scikit-learn does with `zero_division=0`."""
    right, label, prediction = counts["right"], counts["label"], counts["predicted"]
    return {
        "precision": ratio(right, prediction, empty=0.0),
        "recall": ratio(right, label, empty=0.0),
        "f1": ratio(2 * right, label + prediction, empty=0.0),
    }


@dataclasses.dataclass(frozen=True)
class Macro:
    """Precision, recall or f1, averaged over the classes that occur among labels or predictions.

    These are scikit-learn's `average="macro", zero_division=0`: a class that is never predicted has precision
    0, one that has no example has recall 0, and each class has the same weight, however rare.
    """

    score: str
    better, needs_reference, needs_labels = "max", False, True

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return class_counts(output, batch)

    def finish(self, sums: Mapping[str, Any]) -> float:
        occurs = (sums["label"] + sums["predicted"]) > 0
        return float(ratio(np.sum(class_scores(sums)[self.score][occurs]), np.sum(occurs)))


@dataclasses.dataclass(frozen=True)
class PerClass:
    """Precision, recall and f1 of every class, and the number of predictions whose label it is ("examples").

    `finish` returns `{"precision": [classes], "recall": ..., "f1": ..., "examples": ...}`; what divides by 0 is 0.
    """

    better, needs_reference, needs_labels = None, False, True
    is_table = True

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return class_counts(output, batch)

    def finish(self, sums: Mapping[str, Any]) -> dict[str, list]:
        scores = {name: values.tolist() for name, values in class_scores(sums).items()}
        return scores | {"examples": np.asarray(sums["label"]).astype(np.int64).tolist()}


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Counts `[classes][classes]` of predictions, a row per label and a column per predicted class."""

    better, needs_reference, needs_labels = None, False, True
    is_table = True

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> jax.Array:
        classes = core.num_classes(output.logits)
        cell = jnp.maximum(batch["label"], 0) * classes + predicted(output)
        counts = jax.ops.segment_sum(labelled(batch).astype(jnp.int32).reshape(-1), cell.reshape(-1), classes**2)
        return counts.reshape(classes, classes)

    def finish(self, sums: Any) -> list[list[int]]:
        return np.asarray(sums).astype(np.int64).tolist()


METRICS: dict[str, Metric] = {
    "accuracy": Accuracy(),
    "top5": TopK(5),
    "precision": Macro("precision"),
    "recall": Macro("recall"),
    "f1": Macro("f1"),
    "per_class": PerClass(),
    "confusion": Confusion(),
}
