"""Metrics of confidence against accuracy."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import Batch, Output
from jaxdistill.metrics.metric import Metric, labelled, map_predictions, ratio

BINS = 15
"""Number of bins of confidence, as in Guo et al."""

EDGES = np.linspace(0.0, 1.0, BINS + 1)


def bin_sums(output: Output, batch: Batch) -> dict[str, jax.Array]:
    """Sums predictions, confidences and right predictions in each bin of confidence, `[BINS]` each.

    Bin m is the interval (m/15, (m+1)/15] of the largest probability, closed on the right as in Guo et al.,
    "On Calibration of Modern Neural Networks", ICML 2017, section 2, and a confidence of 1 is in the last.
    """

    def sure(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        confidence = jnp.max(jax.nn.softmax(logits.astype(jnp.float32), -1), -1)
        return confidence, jnp.argmax(logits, -1) == label

    confidence, right = (x.reshape(-1) for x in map_predictions(sure, output, batch["label"]))
    counted = labelled(batch).reshape(-1)
    number = jnp.searchsorted(jnp.asarray(EDGES[1:-1], jnp.float32), confidence, side="left")

    def per_bin(values: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(jnp.where(counted, values, 0), number, BINS)

    return {
        "count": per_bin(jnp.ones_like(number)),
        "confidence": per_bin(confidence),
        "right": per_bin(right.astype(jnp.int32)),
    }


@dataclasses.dataclass(frozen=True)
class ECE:
    """The expected calibration error: the gap of accuracy and confidence, averaged over predictions by bins.

    Guo et al. 2017 (arXiv:1706.04599), section 2, with 15 bins of equal width.
    """

    better, needs_reference, needs_labels = "min", False, True

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return bin_sums(output, batch)

    def finish(self, sums: Mapping[str, Any]) -> float:
        return float(ratio(np.sum(np.abs(sums["right"] - sums["confidence"])), np.sum(sums["count"])))


@dataclasses.dataclass(frozen=True)
class ECEGap:
    """The network's expected calibration error minus the reference's; below 0 it is the better calibrated one."""

    better, needs_reference, needs_labels, same_classes = "min", True, True, True

    def sums(self, output: Output, batch: Batch, reference: Output) -> dict[str, Any]:
        return {"own": bin_sums(output, batch), "reference": bin_sums(reference, batch)}

    def finish(self, sums: Mapping[str, Any]) -> float:
        return ECE().finish(sums["own"]) - ECE().finish(sums["reference"])


@dataclasses.dataclass(frozen=True)
class Reliability:
    """The data of a reliability diagram: per bin of confidence the count, mean confidence and accuracy.

    `finish` returns `{"edges": [16], "count": [15], "confidence": [15], "accuracy": [15]}`, None in empty bins.
    """

    better, needs_reference, needs_labels = None, False, True
    is_table = True

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        return bin_sums(output, batch)

    def finish(self, sums: Mapping[str, Any]) -> dict[str, list]:
        def means(values: Any) -> list[float | None]:
            return [float(value / count) if count else None for value, count in zip(values, sums["count"], strict=True)]

        return {
            "edges": EDGES.tolist(),
            "count": np.asarray(sums["count"]).astype(np.int64).tolist(),
            "confidence": means(sums["confidence"]),
            "accuracy": means(sums["right"]),
        }


METRICS: dict[str, Metric] = {"ece": ECE(), "ece_gap": ECEGap(), "reliability": Reliability()}
