"""Metrics of predicted numbers, by hand, in the units of the targets."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.metrics import METRICS

BATCH = {"target": jnp.array([0.0, 1.0, 9.0]), "label": jnp.array([0, 0, -1]), "mask": jnp.ones(3)}
GAUSSIAN = Output(jnp.array([[3.0, 0.0], [5.0, 0.0], [0.0, 0.0]]))
QUANTILES = Output(jnp.array([[0.0, 0.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))


def value(name, output, **settings):
    metric = dataclasses.replace(METRICS[name], **settings)
    return metric.finish(metric.sums(output, BATCH, None))


def test_errors_are_in_the_units_of_the_targets_and_leave_out_missing_ones():
    assert value("rmse", GAUSSIAN, scale=2.0) == pytest.approx(2 * np.sqrt((9 + 16) / 2))
    assert value("mae", GAUSSIAN, scale=2.0) == pytest.approx(2 * (3 + 4) / 2)


def test_of_quantiles_the_mean_has_the_squared_and_the_median_the_absolute_error():
    assert value("rmse", QUANTILES, form="quantiles") == pytest.approx(1)
    assert value("mae", QUANTILES, form="quantiles") == pytest.approx((0 + 1) / 2)


def test_the_likelihood_is_that_of_the_target_in_its_units():
    expected = np.mean([np.log(2 * np.pi) / 2 + np.log(7) + error**2 / 2 for error in (3, 4)])
    assert value("gaussian_nll", GAUSSIAN, scale=7.0) == pytest.approx(expected)


def test_pinball_by_hand():
    """Levels 1/6, 1/2, 5/6; errors y - q of (0, 0, -3) and (0, -1, -2)."""
    expected = np.mean([(0 + 0 + 3 / 6) / 3, (0 + 1 / 2 + 2 / 6) / 3])
    assert value("pinball", QUANTILES, scale=10.0) == pytest.approx(10 * expected)


def test_kl_to_the_reference():
    metric = METRICS["gaussian_kl"]
    reference = Output(GAUSSIAN.logits + jnp.array([[2.0, 0.0]]))
    assert metric.finish(metric.sums(GAUSSIAN, BATCH, reference)) == pytest.approx(2.0)
