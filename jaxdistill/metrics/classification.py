"""How well a classifier finds the labels, and how well it knows when it does.

All take `output.logits: [batch, classes]`, `batch["label"]: int32 [batch]` and `batch["mask"]: [batch]`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core

BINS = 15
"""Bins of confidence, as many as Guo et al. use."""

EDGES = np.linspace(0.0, 1.0, BINS + 1)


def labelled(batch: core.Batch) -> jax.Array:
    """Returns which examples count where labels are needed, bool `[batch]`."""
    return (batch["mask"] > 0) & (batch["label"] != core.UNLABELLED)


def total(values: jax.Array, valid: jax.Array) -> dict[str, jax.Array]:
    """Returns the sums of a mean: of the values, `[batch]`, that are valid, and how many those are."""
    return {"sum": jnp.sum(jnp.where(valid, values, 0)), "count": jnp.sum(valid)}


def ratio(numerator, denominator, empty: float = np.nan) -> np.ndarray:
    """Divides in float64, and gives `empty` where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, empty), where=denominator != 0)


@dataclasses.dataclass(frozen=True)
class TopK:
    """The share of examples whose label is among the `k` largest logits; `k = 1` is accuracy.

    For `k = 1` the prediction is the argmax, so that accuracy, confusion and agreement speak of the same
    prediction. Otherwise a label is found if fewer than `k` logits are strictly greater than its own, so that
    ties are in its favour; with `k` classes or fewer the value is 1.
    """

    k: int
    better, needs_reference, needs_labels = "max", False, True

    def sums(self, output, batch, reference=None):
        if self.k == 1:
            return total(jnp.argmax(output.logits, -1) == batch["label"], labelled(batch))
        own = jnp.take_along_axis(output.logits, jnp.maximum(batch["label"], 0)[:, None], -1)
        greater = jnp.sum(~(output.logits <= own), -1)  # a nan is not <= anything, hence not to its own favour
        return total(greater < self.k, labelled(batch))

    def finish(self, sums) -> float:
        return float(ratio(sums["sum"], sums["count"]))


@dataclasses.dataclass(frozen=True)
class NLL:
    """The mean negative log-likelihood of the label, in nats, from float32 log-probabilities."""

    better, needs_reference, needs_labels = "min", False, True

    def sums(self, output, batch, reference=None):
        logs = jax.nn.log_softmax(output.logits.astype(jnp.float32), -1)
        own = jnp.take_along_axis(logs, jnp.maximum(batch["label"], 0)[:, None], -1)[:, 0]
        return total(-own, labelled(batch))

    def finish(self, sums) -> float:
        return float(ratio(sums["sum"], sums["count"]))


def class_counts(output: core.Output, batch: core.Batch) -> dict[str, jax.Array]:
    """Counts for each class how often it is the label, is predicted, and both, int32 `[classes]` each."""
    classes = output.logits.shape[-1]
    label, predicted, valid = batch["label"], jnp.argmax(output.logits, -1), labelled(batch)

    def per_class(ids, which):
        return jax.ops.segment_sum(which.astype(jnp.int32), ids, classes)

    return {
        "label": per_class(label, valid),
        "predicted": per_class(predicted, valid),
        "right": per_class(label, valid & (label == predicted)),
    }


def class_scores(counts) -> dict[str, np.ndarray]:
    """Returns each class's precision, recall and f1, `[classes]`, as scikit-learn does with `zero_division=0`."""
    right, label, predicted = counts["right"], counts["label"], counts["predicted"]
    return {
        "precision": ratio(right, predicted, empty=0.0),
        "recall": ratio(right, label, empty=0.0),
        "f1": ratio(2 * right, label + predicted, empty=0.0),
    }


@dataclasses.dataclass(frozen=True)
class Macro:
    """Precision, recall or f1, averaged over the classes that occur among labels or predictions.

    These are scikit-learn's `average="macro", zero_division=0`: a class that is never predicted has precision
    0, one that has no example has recall 0, and each class weighs the same, however rare.
    """

    score: str
    better, needs_reference, needs_labels = "max", False, True

    def sums(self, output, batch, reference=None):
        return class_counts(output, batch)

    def finish(self, sums) -> float:
        occurs = (sums["label"] + sums["predicted"]) > 0
        return float(ratio(np.sum(class_scores(sums)[self.score][occurs]), np.sum(occurs)))


@dataclasses.dataclass(frozen=True)
class PerClass:
    """Precision, recall and f1 of every class, and how many examples have it as their label ("examples").

    `finish` gives `{"precision": [classes], "recall": ..., "f1": ..., "examples": ...}`; what divides by 0 is 0.
    """

    better, needs_reference, needs_labels = None, False, True

    def sums(self, output, batch, reference=None):
        return class_counts(output, batch)

    def finish(self, sums) -> dict[str, list]:
        scores = {name: values.tolist() for name, values in class_scores(sums).items()}
        return scores | {"examples": np.asarray(sums["label"]).astype(np.int64).tolist()}


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Counts `[classes][classes]` of examples, a row per label and a column per prediction."""

    better, needs_reference, needs_labels = None, False, True

    def sums(self, output, batch, reference=None):
        classes = output.logits.shape[-1]
        cell = jnp.maximum(batch["label"], 0) * classes + jnp.argmax(output.logits, -1)
        counts = jax.ops.segment_sum(labelled(batch).astype(jnp.int32), cell, classes**2)
        return counts.reshape(classes, classes)

    def finish(self, sums) -> list[list[int]]:
        return np.asarray(sums).astype(np.int64).tolist()


def bin_sums(output: core.Output, batch: core.Batch) -> dict[str, jax.Array]:
    """Sums examples, confidences and right predictions in each bin of confidence, `[BINS]` each.

    Bin m is the interval (m/15, (m+1)/15] of the largest probability, closed on the right as in Guo et al.,
    "On Calibration of Modern Neural Networks", ICML 2017, section 2, and a confidence of 1 is in the last.
    """
    valid = labelled(batch)
    confidence = jnp.max(jax.nn.softmax(output.logits.astype(jnp.float32), -1), -1)
    right = jnp.argmax(output.logits, -1) == batch["label"]
    which = jnp.searchsorted(jnp.asarray(EDGES[1:-1], jnp.float32), confidence, side="left")

    def per_bin(values):
        return jax.ops.segment_sum(jnp.where(valid, values, 0), which, BINS)

    return {
        "count": per_bin(jnp.ones_like(which)),
        "confidence": per_bin(confidence),
        "right": per_bin(right.astype(jnp.int32)),
    }


@dataclasses.dataclass(frozen=True)
class ECE:
    """The expected calibration error: the gap of accuracy and confidence, averaged over examples by bins.

    Guo et al. 2017 (arXiv:1706.04599), section 2, with 15 bins of equal width.
    """

    better, needs_reference, needs_labels = "min", False, True

    def sums(self, output, batch, reference=None):
        return bin_sums(output, batch)

    def finish(self, sums) -> float:
        return float(ratio(np.sum(np.abs(sums["right"] - sums["confidence"])), np.sum(sums["count"])))


@dataclasses.dataclass(frozen=True)
class Reliability:
    """What a reliability diagram shows: per bin of confidence the count, mean confidence and accuracy.

    `finish` gives `{"edges": [16], "count": [15], "confidence": [15], "accuracy": [15]}`, None in empty bins.
    """

    better, needs_reference, needs_labels = None, False, True

    def sums(self, output, batch, reference=None):
        return bin_sums(output, batch)

    def finish(self, sums) -> dict[str, list]:
        def means(values):
            return [float(value / count) if count else None for value, count in zip(values, sums["count"], strict=True)]

        return {
            "edges": EDGES.tolist(),
            "count": np.asarray(sums["count"]).astype(np.int64).tolist(),
            "confidence": means(sums["confidence"]),
            "accuracy": means(sums["right"]),
        }
