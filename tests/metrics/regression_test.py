"""Metrics of predicted numbers, by hand, in the units of the targets."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.metrics import METRICS

BATCH = {"target": jnp.array([[0.0], [1.0], [9.0]]), "label": jnp.array([0, 0, -1]), "mask": jnp.ones(3)}
GAUSSIAN = Output(jnp.array([[3.0, 0.0], [5.0, 0.0], [0.0, 0.0]]))
QUANTILES = Output(jnp.array([[0.0, 0.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))


def value(name, output, **settings):
    metric = dataclasses.replace(METRICS[name], **settings)
    return metric.finish(metric.sums(output, BATCH, None))


def test_errors_are_in_the_units_of_the_targets_and_leave_out_missing_ones():
    assert value("rmse", GAUSSIAN, scale=(2.0,)) == pytest.approx(2 * np.sqrt((9 + 16) / 2))
    assert value("mae", GAUSSIAN, scale=(2.0,)) == pytest.approx(2 * (3 + 4) / 2)


def test_of_quantiles_the_mean_has_the_squared_and_the_median_the_absolute_error():
    assert value("rmse", QUANTILES, form="quantiles") == pytest.approx(1)
    assert value("mae", QUANTILES, form="quantiles") == pytest.approx((0 + 1) / 2)


def test_the_likelihood_is_that_of_the_target_in_its_units():
    expected = np.mean([np.log(2 * np.pi) / 2 + np.log(7) + error**2 / 2 for error in (3, 4)])
    assert value("gaussian_nll", GAUSSIAN, scale=(7.0,)) == pytest.approx(expected)


def test_pinball_by_hand():
    """Levels 1/6, 1/2, 5/6; errors y - q of (0, 0, -3) and (0, -1, -2)."""
    expected = np.mean([(0 + 0 + 3 / 6) / 3, (0 + 1 / 2 + 2 / 6) / 3])
    assert value("pinball", QUANTILES, scale=(10.0,)) == pytest.approx(10 * expected)


def test_kl_to_the_reference():
    metric = METRICS["gaussian_kl"]
    reference = Output(GAUSSIAN.logits + jnp.array([[2.0, 0.0]]))
    assert metric.finish(metric.sums(GAUSSIAN, BATCH, reference)) == pytest.approx(2.0)


TWO = {"target": jnp.array([[0.0, 4.0], [2.0, np.nan], [4.0, 8.0]]), "label": jnp.zeros(3, int), "mask": jnp.ones(3)}
OF_TWO = Output(jnp.array([[1.0, 0.0, 4.0, 0.0], [2.0, 0.0, 9.0, 0.0], [4.0, 0.0, 6.0, 0.0]]))


def test_several_targets_have_their_own_units_and_the_mean_of_their_errors():
    metric = dataclasses.replace(METRICS["per_target"], scale=(1.0, 10.0))
    table = metric.finish(metric.sums(OF_TWO, TWO))
    assert table["rmse"] == pytest.approx([np.sqrt(1 / 3), 10 * np.sqrt(4 / 2)])
    assert table["r2"] == pytest.approx([1 - 1 / 8, 1 - 4 / 8])
    assert table["examples"] == [3, 2]
    for name in ("rmse", "mae", "r2"):
        part = dataclasses.replace(METRICS[name], scale=(1.0, 10.0))
        assert part.finish(part.sums(OF_TWO, TWO)) == pytest.approx(np.mean(table[name]))


def test_a_constant_target_has_no_r2():
    constant = TWO | {"target": TWO["target"].at[:, 1].set(0.7)}  # whose float32 sums leave a rounding above 0
    table = METRICS["per_target"].finish(METRICS["per_target"].sums(OF_TWO, constant))
    assert table["r2"][1] is None
    assert METRICS["r2"].finish(METRICS["r2"].sums(OF_TWO, constant)) == pytest.approx(1 - 1 / 8)


SCALE = {"scale": (1.0, 10.0)}
OF_TWO_QUANTILES = Output(jnp.concatenate([OF_TWO.logits[:, :3], OF_TWO.logits[:, 1:]], -1))


@pytest.mark.parametrize(
    ("name", "output", "settings"),
    [
        *((name, OF_TWO, SCALE) for name in ("rmse", "mae", "gaussian_nll")),
        *((name, OF_TWO_QUANTILES, SCALE | {"form": "quantiles"}) for name in ("rmse", "mae", "pinball")),
    ],
)
def test_scores_of_examples_have_the_metric_as_their_mean(name, output, settings):
    metric = dataclasses.replace(METRICS[name], **settings)
    batch = {key: jnp.concatenate([x, x[:1]]) for key, x in TWO.items()} | {"label": jnp.array([0, 0, 0, -1])}
    output = Output(jnp.concatenate([output.logits, output.logits[:1]]))
    numbers = output.logits.reshape(4, 2, -1)
    scores = metric.score({"numbers": np.asarray(numbers)} | {key: np.asarray(x) for key, x in batch.items()})
    assert np.isnan(scores).tolist() == [False, False, False, True]
    assert scores[:3].mean() == pytest.approx(metric.finish(metric.sums(output, batch)), rel=1e-6)


def test_the_score_of_a_root_is_linear_in_the_squared_error():
    arrays = {key: np.asarray(x) for key, x in BATCH.items()} | {"numbers": np.asarray(GAUSSIAN.logits)[:, None]}
    root = np.sqrt((9 + 16) / 2)
    expected = [(root + 9 / root) / 2, (root + 16 / root) / 2, np.nan]
    np.testing.assert_allclose(METRICS["rmse"].score(arrays), expected, rtol=1e-6)
    right = arrays | {"numbers": np.asarray([[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]])}
    np.testing.assert_array_equal(METRICS["rmse"].score(right), [0, 0, np.nan])
