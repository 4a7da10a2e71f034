"""Metrics of the examples with a value: of tokens, which metrics have them, and their names."""

import jax.numpy as jnp
import numpy as np

from jaxdistill.core import Output
from jaxdistill.metrics import METRICS
from jaxdistill.train import parts


def test_predictions_of_tokens():
    """Those that count, of examples that count; a value without examples has no predictions."""
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 5)), jnp.float32)
    batch = {
        "label": jnp.argmax(logits, -1).at[:, 0].set(0),
        "valid": jnp.array([[1, 1, 0], [1, 1, 1], [0, 1, 1], [0, 0, 0]], jnp.float32),
        "mask": jnp.array([1, 1, 1, 0], jnp.float32),
        "route": jnp.array([0, 1, 0, 0], jnp.int32),
    }
    metric = METRICS["accuracy"]
    sums = parts.sum_parts({"accuracy": metric}, Output(logits, {}), batch, None, count=3)["accuracy"]
    right = np.asarray(jnp.argmax(logits, -1) == batch["label"])
    for number, rows in enumerate(([0, 2], [1], [])):
        counted = np.asarray(batch["valid"])[rows] > 0
        assert sums["count"][number] == counted.sum()
        assert sums["sum"][number] == right[rows][counted].sum()


def test_tables_and_comparisons_of_examples_have_none():
    whole = {"confusion", "reliability", "per_class", "cka", "per_label", "per_target", "iou_per_class"}
    found = {name for name, metric in METRICS.items() if not parts.has_parts(metric)}
    assert whole <= found | {"iou_per_class"}
    assert "kl" not in found


def test_names():
    values = {"nll": 1.0, "confusion": [[1]], "accuracy": 0.5}
    of_parts = {"fr": {"accuracy": 0.25, "nll": 2.0}, "de": {"accuracy": 0.75}}
    assert parts.gather_numbers(values, of_parts) == {
        "nll": 1.0,
        "accuracy": 0.5,
        "nll:fr": 2.0,
        "accuracy:fr": 0.25,
        "accuracy:de": 0.75,
    }
