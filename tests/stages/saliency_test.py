"""Where networks look: derivatives, ranks, and the examples that they belong to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import runs
import toys
from jaxdistill import launch
from jaxdistill.core import Output
from jaxdistill.networks import Ensemble, Frozen, Source
from jaxdistill.pipeline import run
from jaxdistill.stages import examples, saliency


def start(*names):
    networks = {name: Frozen(toys.Net(norm=True, dropout=0.5)) for name in names}
    batch = toys.batch(5)
    known = {n: net.module.init(jax.random.key(i), batch["image"]) for i, (n, net) in enumerate(networks.items())}
    return networks, known, batch


def log_odds(network, variables, image):
    logits = np.asarray(network.module.apply(variables, image).logits, np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    best = logits.argmax(-1)[:, None]
    own = np.take_along_axis(p, best, -1)[:, 0]
    return np.log(own) - np.log1p(-own)


def test_by_differences():
    networks, known, batch = start("net")
    found = saliency.saliency(networks, "net", known, batch)
    assert found.shape == (5, toys.SIDE, toys.SIDE)
    for row, column in ((0, 0), (1, 2), (3, 3)):
        step = np.zeros(batch["image"].shape, np.float32)
        step[:, row, column] = 2e-3
        sides = [log_odds(networks["net"], known["net"], batch["image"] + sign * step) for sign in (1, -1)]
        np.testing.assert_allclose(found[:, row, column], np.abs(sides[0] - sides[1]) / 4e-3, rtol=5e-3, atol=1e-3)


def test_the_largest_of_the_channels_counts():
    weight = jnp.asarray([[1.0, -3.0], [0.5, 0.25]])  # of a channel for a class; no pixel matters but by its channels
    batch = {"image": jnp.ones((1, 2, 2, 2))}
    network = Told(lambda image: jnp.sum(image, (1, 2)) @ weight)
    found = saliency.saliency({"told": network}, "told", {}, batch)
    np.testing.assert_allclose(found, np.full((1, 2, 2), 4.0), rtol=1e-6)  # |1 - -3| of the one, 0.25 of the other


def test_a_confident_network_still_has_a_map():
    batch = {"image": jnp.ones((1, 2, 2, 1))}
    network = Told(lambda image: 1e3 * jnp.stack([image[:, 0, 0, 0], -image[:, 1, 1, 0], -2 * image[:, 1, 1, 0]], -1))
    found = saliency.saliency({"told": network}, "told", {}, batch)
    np.testing.assert_allclose(found[0], [[1e3, 0], [0, 1e3]], rtol=1e-6)


def test_the_map_of_an_ensemble_combines_its_members():
    networks, known, batch = start("a", "b")
    networks["both"] = Ensemble(("a", "b"))
    assert np.ptp(np.asarray(saliency.saliency(networks, "both", known, batch))) > 0


def test_rank_correlation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 6, size=(4, 5, 6)).astype(np.float32)  # with many ties
    other = one + rng.integers(0, 6, size=one.shape)
    found = jax.jit(saliency.rank_correlation)(one, other)
    expected = [scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.isnan(saliency.rank_correlation(np.zeros_like(one), other)).all()


@dataclasses.dataclass(frozen=True)
class Told(Source):
    """Logits by any function of the images."""

    function: object
    differentiable: bool = True
    frozen = True

    def __call__(self, variables, batch, outputs, key):
        return Output(self.function(batch["image"])), {}


def far(image):
    """What JAX cannot differentiate."""
    return jax.pure_callback(
        lambda x: np.zeros((len(x), 10), np.float32), jax.ShapeDtypeStruct((len(image), 10), "f4"), image
    )


@pytest.fixture(scope="module")
def stage():
    config, _ = launch.parse(["launch", "--config", runs.TINY])
    stage = run.prepare(config, None)["evaluate"]
    more = {"cached": Told(lambda image: image[:, 0, :, 0] @ jnp.ones((8, 10)), differentiable=False), "far": Told(far)}
    more["both"] = Ensemble(("student", "cached"))
    stage = dataclasses.replace(stage, networks=dict(stage.networks) | more)
    return runs.with_evaluate(stage, networks=("teacher", "student", "slow", *more))


def test_maps_are_of_the_requested_examples_and_means_over_a_sample(stage, monkeypatch):
    monkeypatch.setattr(saliency, "SAMPLE", 9)
    monkeypatch.setattr(examples, "BATCH", 8)
    known = jax.jit(stage.init)()[1]
    shown = np.asarray([200, 7, 31])
    found = saliency.compute_saliency(stage, known, shown)
    assert found.left_out == ["cached", "far", "both"]
    assert [*found.maps] == ["teacher", "student", "slow"]
    assert found.examples == 9
    assert set(found.pairs) == {("student", "teacher"), ("slow", "teacher"), ("slow", "student")}

    sample = np.linspace(0, 359, 9).astype(int)
    images = stage.data.dataset.split("test").take(np.concatenate([shown, sample]))["image"]
    batch = stage.data.prepare({"image": jnp.asarray(images), "mask": jnp.ones(len(images))})
    looks = {name: np.asarray(saliency.saliency(stage.networks, name, known, batch)) for name in found.maps}
    for name, maps in found.maps.items():
        expected = looks[name][:3]
        assert maps.dtype == np.uint8
        np.testing.assert_allclose(maps, 255 * expected / expected.max((1, 2), keepdims=True), atol=0.51)
    for (one, other), value in found.pairs.items():
        pairs = zip(looks[one][3:], looks[other][3:], strict=True)
        alike = [scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs]
        assert value == pytest.approx(np.mean(alike), abs=1e-4)


def test_no_network_and_no_example_give_no_map(stage):
    blind = runs.with_evaluate(stage, networks=("cached", "far"), reference="cached", pairs=())
    found = saliency.compute_saliency(blind, {}, np.asarray([1, 2]))
    assert (found.maps, found.pairs, found.left_out) == ({}, {}, ["cached", "far"])
    seeing = runs.with_evaluate(blind, networks=("student",), reference="student")
    assert saliency.compute_saliency(seeing, jax.jit(seeing.init)()[1], np.zeros(0, int)).maps == {}
