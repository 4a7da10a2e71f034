"""Linear CKA that adds up over batches, beside NumPy's forms of whole batches."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core, metrics
from jaxdistill.metrics import cka

METRIC = metrics.METRICS["cka"]


def sums_of(own, other, mask=None):
    """Takes `{tap: array}` of both."""
    rows = len(next(iter(own.values())))
    batch = {"mask": jnp.asarray(np.ones(rows) if mask is None else mask, jnp.float32)}
    outputs = [
        core.Output(jnp.zeros((rows, classes)), {tap: jnp.asarray(x, jnp.float32) for tap, x in taps.items()})
        for classes, taps in ((3, own), (5, other))
    ]
    return jax.tree.map(np.float64, jax.jit(METRIC.sums)(outputs[0], batch, outputs[1]))


def between(x, y, mask=None):
    return METRIC.finish(sums_of({"a": x}, {"b": y}, mask))["cka"][0][0]


def hsic(x, y):
    """The unbiased estimator as Song et al. write it, in float64."""
    n = len(x)
    k, l = (f.astype(np.float64) @ f.T.astype(np.float64) for f in (x, y))  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    whole = np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l).sum()
    return whole / (n * (n - 3))


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 6))
    return x, x @ rng.normal(size=(6, 9)) + 2 * rng.normal(size=(48, 9)) + 50.0


def test_one_batch_is_the_estimator_of_song_et_al(features):
    x, y = features
    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert 0.2 < expected < 0.9
    assert between(x, y) == pytest.approx(expected, rel=1e-5)


def test_batches_add_up_as_in_nguyen_et_al(features):
    x, y = features
    parts = [sums_of({"a": x[rows]}, {"b": y[rows]}) for rows in (slice(0, 16), slice(16, 32), slice(32, 48))]
    found = METRIC.finish(jax.tree.map(lambda *leaves: sum(leaves), *parts))["cka"][0][0]
    sums = [sum(hsic(a[s : s + 16], b[s : s + 16]) for s in (0, 16, 32)) for a, b in ((x, y), (x, x), (y, y))]
    assert found == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), rel=1e-5)


def test_many_examples_agree_with_kornblith_et_al_whatever_the_batch():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1600, 4))
    y = np.tanh(x @ rng.normal(size=(4, 3))) + 0.5 * rng.normal(size=(1600, 3))
    a, b = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(a.T @ b) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b)
    for size in (32, 400):  # the biased estimator is off by 0.04 at 32
        parts = [sums_of({"a": x[s : s + size]}, {"b": y[s : s + size]}) for s in range(0, 1600, size)]
        found = METRIC.finish(jax.tree.map(lambda *leaves: sum(leaves), *parts))["cka"][0][0]
        assert found == pytest.approx(expected, abs=0.02)


def test_rotations_scales_and_shifts_change_nothing(features):
    x, y = features
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(9, 9)))
    assert between(x, 3 * y @ rotation + 7) == pytest.approx(between(x, y), rel=1e-4)
    assert between(x, x) == pytest.approx(1.0, abs=1e-6)


def test_padding_counts_nowhere(features):
    x, y = features
    x_, y_ = (np.concatenate([f, np.full((5, f.shape[1]), np.nan)]) for f in (x, y))
    assert between(x_, y_, [1] * 48 + [0] * 5) == pytest.approx(between(x, y), rel=1e-5)


@pytest.mark.filterwarnings("error")
def test_a_constant_tap_or_too_few_examples_are_none(features):
    x, y = features
    assert between(x, np.ones_like(y)) is None
    assert between(x[:3], y[:3]) is None
    assert between(x[:4], y[:4]) is not None


def test_every_tap_meets_every_tap_by_depth(features):
    x, y = features
    own = {"pooled": x, "stage10": y, "stage2": x, "stem": y}
    table = json.loads(json.dumps(METRIC.finish(sums_of(own, {"final": y, "block0/attention": x}))))
    assert table["taps"] == ["stem", "stage2", "stage10", "pooled"]
    assert table["reference_taps"] == ["block0/attention", "final"]
    cross = between(x, y)
    expected = [[cross, 1.0], [1.0, cross], [cross, 1.0], [1.0, cross]]
    np.testing.assert_allclose(table["cka"], expected, rtol=1e-5)


def test_parts_come_before_the_whole():
    taps = ["stage2", "stage1", "stage1/block10", "stage1/block2", "pooled", "stem"]
    assert cka.by_depth(taps) == ("stem", "stage1/block2", "stage1/block10", "stage1", "stage2", "pooled")


def test_a_network_without_taps_has_an_empty_table(features):
    x, _ = features
    batch = {"mask": jnp.ones(48)}
    outputs = core.Output(jnp.zeros((48, 3))), core.Output(jnp.zeros((48, 3)), {"a": jnp.asarray(x, jnp.float32)})
    sums = jax.tree.map(np.float64, METRIC.sums(outputs[0], batch, outputs[1]))
    assert METRIC.finish(sums) == {"taps": [], "reference_taps": ["a"], "cka": []}


def test_large_maps_are_averaged_over_the_least_blocks_that_fit(monkeypatch):
    monkeypatch.setattr(cka, "FEATURES", 3 * 3 * 2)
    x = jnp.asarray(np.random.default_rng(3).normal(size=(4, 5, 6, 2)), jnp.float32)
    assert cka._features(x[:, :3, :3]).shape == (4, 18)  # fits as it is
    found = np.asarray(cka._features(x)).reshape(4, 3, 3, 2)
    np.testing.assert_allclose(found[:, 0, 0], x[:, :2, :2].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found[:, 2, 2], x[:, 4:, 4:].mean((1, 2)), rtol=1e-5)  # what an edge has, no padding
    assert cka._features(jnp.ones((4, 40))).shape == (4, 40)  # nothing to average over
