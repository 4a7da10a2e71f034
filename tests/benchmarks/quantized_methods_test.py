"""Rows of the table of quantized feature methods."""

import contextlib
import importlib
import sys

import flax.linen as nn
import jax.numpy as jnp
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
quantized_methods = importlib.import_module("quantized_methods")


def test_a_row_has_every_form_and_the_rows_are_by_the_accuracy_of_int4():
    accuracies = {"at": (0.9, 0.9, 0.5, 0.7, 0.8), "fitnet": (0.8, 0.8, 0.6, 0.7, 0.7)}
    forms = ("", "_int8", "_int4", "_qat", "_qad")

    def seed(change):
        rows = [("teacher", 1.0)]
        rows += [(f"{name}{form}", x) for name, xs in accuracies.items() for form, x in zip(forms, xs, strict=True)]
        return [{"network": name, "accuracy": x + change} for name, x in rows]

    rows = quantized_methods.make_rows([seed(0.0), seed(0.02)], lambda method, seed: len(method) + seed)
    assert [row["name"] for row in rows] == ["fitnet", "at"]
    assert list(rows[1]) == list(quantized_methods.COLUMNS)
    assert [rows[1][key]["mean"] for key in ("float32", "int4", "qad")] == pytest.approx([0.91, 0.51, 0.81])
    assert rows[1]["outliers"]["mean"] == 2.5


def test_outliers_are_the_largest_maximum_of_a_channel_over_the_median():
    class Data:
        def batches(self):
            return iter([jnp.array([[1.0, -2.0, 0.0, 8.0]]), jnp.array([[-1.0, 1.0, 0.0, 1.0]])])

        def predict(self, variables, batch, *interceptors):
            with contextlib.ExitStack() as stack:
                for interceptor in interceptors:
                    stack.enter_context(nn.intercept_methods(interceptor))
                return nn.Sequential([nn.Dense(1)]).apply(variables, batch)

    variables = {"params": {"layers_0": {"kernel": jnp.ones((4, 1)), "bias": jnp.ones(1)}}}
    assert quantized_methods.channel_ratios(Data(), variables) == {"layers_0": 4.0}
