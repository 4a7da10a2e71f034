"""Metrics of several labels: each class of an example is a decision of its own, yes if its logit is above 0."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.losses import divergence
from jaxdistill.metrics.classification import class_scores
from jaxdistill.metrics.fidelity import FidelityRatio
from jaxdistill.metrics.metric import GatheringMetric, Metric, Ratio, labelled, ratio, total, valid

Table = Mapping[str, np.ndarray]
"""Scores by name, float64 `[classes]` each, NaN where they are not defined."""


SCORED = ("label", "labels", "logits")
"""The arrays that metrics score examples by (`metric.ExampleMetric`)."""


def present_labels(batch: Batch) -> jax.Array:
    """Returns the labels that count, `[*n, classes]`, 1 or 0, and NaN for the others."""
    return jnp.where(labelled(batch)[..., None], batch["labels"], jnp.nan)


def _counted(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns which labels of stored arrays count, bool `[examples, classes]`."""
    return (arrays["label"] != core.UNLABELLED)[:, None] & ~np.isnan(arrays["labels"])


def _average_labels(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Returns scores of examples whose mean is that of all values that count, `[examples, classes]`."""
    share = ratio(counted.sum(), counted.any(-1).sum())
    scores = np.sum(np.where(counted, values, 0.0), -1, dtype=np.float64)
    return np.where(counted.any(-1), scores / share, np.nan)


def _decisions(output: Output) -> jax.Array:
    return core.dense(output.logits) > 0


@dataclasses.dataclass(frozen=True)
class Gather:
    """Logits and labels of every example, and the scores of all classes; metrics of one `name` share them."""

    name: str = "labels"

    def rows(self, output: Output, batch: Batch) -> dict[str, jax.Array]:
        return {"logits": core.dense(output.logits).astype(jnp.float32), "labels": present_labels(batch)}

    def summarize(self, rows: Mapping[str, np.ndarray]) -> Table:
        """Returns the scores of the classes (`score_class`)."""
        columns = zip(rows["logits"].T, rows["labels"].T, strict=True)
        scores = [score_class(logits[~np.isnan(labels)], labels[~np.isnan(labels)] > 0) for logits, labels in columns]
        return {name: np.array([score[name] for score in scores], np.float64) for name in scores[0]}


def score_class(logits: np.ndarray, is_positive: np.ndarray) -> dict[str, float]:
    """Returns the scores of one class from the examples whose label is present, `[n]` each.

    `average_precision` is the mean over positives of the precision at their logit, and `auroc` the probability that a
    positive has a larger logit than a negative, half for equal ones: both as in scikit-learn. The first is NaN without
    a positive, the second also without a negative. The others are of the decision that a logit is above 0.
    """
    order = np.argsort(-logits, kind="stable")
    logits, is_positive = logits[order], is_positive[order]
    last = np.flatnonzero(np.append(np.diff(logits) != 0, True)[: len(logits)])  # of each group of equal logits
    hits, taken = np.cumsum(is_positive)[last], last + 1
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    new, before = np.diff(hits, prepend=0), hits - np.diff(hits, prepend=0)
    new_negatives = np.diff(taken - hits, prepend=0)
    counts = {"label": positives, "predicted": (logits > 0).sum(), "right": (is_positive & (logits > 0)).sum()}
    return {
        "average_precision": float(ratio(np.sum(new * hits / taken), positives)),
        "auroc": float(ratio(np.sum(new_negatives * (before + new / 2)), positives * negatives)),
        **{name: float(score) for name, score in class_scores(counts).items()},
        "examples": positives,
    }


@dataclasses.dataclass(frozen=True)
class MeanOverClasses:
    """The mean over classes of a score that orders their examples; classes without it do not count.

    `average_precision` is mAP, the mean over classes of the area under precision and recall; `auroc` is the mean
    probability that an example with a label has a larger logit than one without.
    """

    score: str
    gather: Gather = Gather()
    better, needs_reference, needs_labels, predictions = "max", False, True, "labels"

    def finish(self, summary: Table) -> float:
        values = summary[self.score]
        is_present = ~np.isnan(values)
        return float(ratio(np.sum(values[is_present]), np.sum(is_present)))


@dataclasses.dataclass(frozen=True)
class PerLabel:
    """Average precision, AUROC, precision, recall and F1 of every class, and the number of examples that have it.

    `finish` returns `{"average_precision": [classes], "auroc": ..., ..., "examples": ...}`; None for what is not
    defined, and 0 for precision, recall and F1 that divide by 0.
    """

    gather: Gather = Gather()
    better, needs_reference, needs_labels, predictions = None, False, True, "labels"
    is_table = True

    def finish(self, summary: Table) -> dict[str, list]:
        table = {name: [None if np.isnan(x) else float(x) for x in values] for name, values in summary.items()}
        return table | {"examples": summary["examples"].astype(np.int64).tolist()}


@dataclasses.dataclass(frozen=True)
class F1:
    """F1 of the decisions, `average="macro"` over classes that occur, or "micro" over all decisions together.

    As in scikit-learn; a class occurs if it is a label or a yes of some example.
    """

    average: str
    better, needs_reference, needs_labels, predictions = "max", False, True, "labels"

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        labels, decision = present_labels(batch), _decisions(output)
        counted, axes = ~jnp.isnan(labels), tuple(range(labels.ndim - 1))
        parts = {"label": labels > 0, "predicted": counted & decision, "right": (labels > 0) & decision}
        return {name: jnp.sum(part, axes) for name, part in parts.items()}

    def finish(self, sums: Mapping[str, Any]) -> float:
        counts = {name: np.asarray(values) for name, values in sums.items()}
        if self.average == "micro":
            counts = {name: values.sum(keepdims=True) for name, values in counts.items()}
        occurs = (counts["label"] + counts["predicted"]) > 0
        return float(ratio(np.sum(class_scores(counts)["f1"][occurs]), np.sum(occurs)))


@dataclasses.dataclass(frozen=True)
class SubsetAccuracy(Ratio):
    """The fraction of examples whose decisions are all right."""

    predictions, scored = "labels", SCORED

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        labels = present_labels(batch)
        is_right = (_decisions(output) == (labels > 0)) | jnp.isnan(labels)
        return total(jnp.all(is_right, -1), labelled(batch))

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        is_right = ((arrays["logits"] > 0) == (arrays["labels"] > 0)) | np.isnan(arrays["labels"])
        return np.where(arrays["label"] == core.UNLABELLED, np.nan, is_right.all(-1))


@dataclasses.dataclass(frozen=True)
class LabelAccuracy(Ratio):
    """The fraction of right decisions, 1 minus the Hamming loss."""

    predictions, scored = "labels", SCORED

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        labels = present_labels(batch)
        return total(_decisions(output) == (labels > 0), ~jnp.isnan(labels))

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return _average_labels((arrays["logits"] > 0) == (arrays["labels"] > 0), _counted(arrays))


@dataclasses.dataclass(frozen=True)
class BinaryNLL(Ratio):
    """The mean negative log-likelihood of a decision, in nats."""

    better, predictions, scored = "min", "labels", SCORED

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        labels = present_labels(batch)
        nats = divergence.binary_cross_entropy(jnp.nan_to_num(labels), core.dense(output.logits))
        return total(nats, ~jnp.isnan(labels))

    def score(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        labels, logits = jnp.nan_to_num(arrays["labels"]), jnp.asarray(arrays["logits"])
        return _average_labels(np.asarray(divergence.binary_cross_entropy(labels, logits)), _counted(arrays))


@dataclasses.dataclass(frozen=True)
class LabelAgreement(FidelityRatio):
    """The fraction of decisions that are the same as the reference's, right or wrong."""

    needs_labels, predictions = False, "labels"

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        same = _decisions(output) == _decisions(reference)
        return total(same, jnp.broadcast_to(valid(batch)[..., None], same.shape))


@dataclasses.dataclass(frozen=True)
class BinaryKL(FidelityRatio):
    """The mean over decisions of KL(reference || network), in nats."""

    better, needs_labels, predictions = "min", False, "labels"

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, jax.Array]:
        nats = divergence.binary_kl(core.dense(reference.logits), core.dense(output.logits))
        return total(nats, jnp.broadcast_to(valid(batch)[..., None], nats.shape))


METRICS: dict[str, Metric | GatheringMetric] = {
    "average_precision": MeanOverClasses("average_precision"),
    "auroc": MeanOverClasses("auroc"),
    "macro_f1": F1("macro"),
    "micro_f1": F1("micro"),
    "subset_accuracy": SubsetAccuracy(),
    "label_accuracy": LabelAccuracy(),
    "binary_nll": BinaryNLL(),
    "label_agreement": LabelAgreement(),
    "binary_kl": BinaryKL(),
    "per_label": PerLabel(),
}
