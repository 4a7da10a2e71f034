"""Metrics of whole texts, by hand."""

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.core import Output
from jaxdistill.metrics import METRICS

METRIC = METRICS["exact_match"]


def test_a_text_is_right_if_all_its_labels_are():
    label = jnp.array([[1, 2, 0], [1, 2, 0], [3, 3, 3], [0, 0, 0]])
    valid = jnp.array([[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0]])
    predicted = jnp.array([[1, 2, 9], [1, 3, 0], [9, 3, 3], [0, 0, 0]])
    batch = {"label": label, "valid": valid, "mask": jnp.ones(4)}
    sums = METRIC.sums(Output(jax.nn.one_hot(predicted, 10)), batch, None)
    assert METRIC.finish(jax.device_get(sums)) == pytest.approx(2 / 3)  # the last has no label, and does not count


def test_of_one_label_an_example_it_is_the_accuracy():
    batch = {"label": jnp.array([1, 0, -1]), "mask": jnp.array([1, 1, 1])}
    logits = jax.nn.one_hot(jnp.array([1, 1, 1]), 2)
    assert METRIC.finish(jax.device_get(METRIC.sums(Output(logits), batch, None))) == 0.5
