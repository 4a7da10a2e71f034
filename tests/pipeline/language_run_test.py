"""Texts from a config to the report: next tokens, live and cached, in lanes; classes of texts; and a ViT on images."""

import json
import math
import pathlib
import shutil
import zipfile

import jax
import numpy as np
import pytest

import runs
from jaxdistill import core
from jaxdistill.config import load
from jaxdistill.core import Unembedding
from jaxdistill.data import datasets
from jaxdistill.pipeline import run as pipeline
from jaxdistill.stages import start_weights

pytestmark = pytest.mark.slow

LANGUAGE = str(pathlib.Path(__file__).parents[1] / "configs" / "language.py")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language") / "run"
    assert runs.launched(folder, config=LANGUAGE) == 0
    return folder


@pytest.fixture(scope="module")
def stages(run):
    return pipeline.prepare(load.load(LANGUAGE), run)


def params(run, stage):
    start = "params.student."
    arrays = runs.weights(run, stage, 12)
    return {name: x for name, x in arrays.items() if name.startswith(start)}


def test_numbers_are_those_of_every_next_byte_of_the_split(run, stages):
    stage = stages["evaluate"]
    known, dataset = start_weights.read(stage.runs, run), datasets.load("arithmetic", length=32)
    tokens = dataset.split("test").take(np.arange(len(dataset.split("test"))))["tokens"]
    logs = {}
    for name, network in stage.networks.items():
        said = jax.jit(network.module.apply)(known[name], tokens).logits
        assert isinstance(said, Unembedding)
        logs[name] = np.asarray(jax.nn.log_softmax(core.dense(said)[:, :-1]), np.float64)
    label = tokens[:, 1:]
    for row in runs.results(run):
        own, other = logs[row["network"]], logs["teacher"]
        nll = -np.take_along_axis(own, label[..., None], -1).mean()
        assert row["nll"] == pytest.approx(nll, rel=1e-5)
        assert row["perplexity"] == pytest.approx(np.exp(nll), rel=1e-5)
        assert row["bits_per_byte"] == pytest.approx(nll / np.log(2), rel=1e-5)
        assert row["accuracy"] == pytest.approx((own.argmax(-1) == label).mean(), abs=1e-3)
        assert row["agreement"] == pytest.approx((own.argmax(-1) == other.argmax(-1)).mean(), abs=1e-3)
        assert row["kl"] == pytest.approx((np.exp(other) * (other - own)).sum(-1).mean(), rel=1e-4, abs=1e-7)


def shapes_in(jaxpr):
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from shapes_in(inner)


def test_a_step_from_a_config_never_has_the_logits_of_all_tokens(stages):
    stage = stages["live"]
    found = shapes_in(
        jax.make_jaxpr(stage.runs.step())(stage.shapes.state, stage.shapes.frozen, stage.data.raw_batch).jaxpr
    )
    # Chunks of at most 100 of 512 positions are 64, which divide them.
    assert max(math.prod(shape[:-1]) for shape in found if shape and shape[-1] == 256) == 64


def test_a_cached_teacher_teaches_as_the_live_one(run):
    live, read = params(run, "live"), params(run, "read")
    for name, expected in live.items():
        np.testing.assert_allclose(read[name], expected, rtol=1e-4, atol=1e-6)
    assert json.loads((run / "read" / "done.json").read_text())["by"] == "student/nll"


@pytest.mark.slow
def test_a_lane_is_the_run_that_it_would_be_alone(tmp_path):
    run = tmp_path / "run"
    assert runs.launched(run, config=f"{LANGUAGE}:lanes") == 0
    alone, lanes = params(run, "live"), params(run, "lanes")
    for name, expected in alone.items():
        np.testing.assert_allclose(lanes[name][0], expected, rtol=1e-4, atol=1e-6)
    assert any(np.abs(x[0] - x[1]).max() > 1e-3 for x in lanes.values())


def test_no_predictions_are_written_and_the_report_has_the_other_sections(run):
    with zipfile.ZipFile(run / "predictions.npz") as held:
        assert sorted(held.namelist()) == ["index.npy", "label.npy"]
    page = (run / "report.html").read_text()
    assert "student reaches a negative log-likelihood of" in page
    assert "nats per token on 180 examples of the test split" in page
    assert "The mean of KL(reference || network) in nats, at temperature 1" in page
    assert (run / "accuracy.svg").is_file()


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "live" / "done.json").unlink()
    shutil.rmtree(copy / "live" / "checkpoints" / "12")
    assert runs.launched(copy, config=LANGUAGE) == 0
    assert "stage live: resumes at step 6" in capsys.readouterr().out
    for name, x in params(run, "live").items():
        np.testing.assert_array_equal(x, params(copy, "live")[name])


@pytest.fixture
def labelled(tmp_path):
    """Texts of up to six tokens, whose class is whether the first is above 5; padding is no token."""
    rng, arrays = np.random.default_rng(0), {"vocabulary": np.array(11), "class_names": np.array(["low", "high"])}
    for role, rows in (("train", 64), ("validation", 32), ("test", 32)):
        tokens = rng.integers(1, 11, (rows, 6))
        mask = np.arange(6)[None] < rng.integers(1, 7, (rows, 1))
        arrays |= {f"{role}_tokens": np.where(mask, tokens, -1), f"{role}_token_mask": mask}
        arrays[f"{role}_label"] = (tokens[:, 0] > 5).astype(int)
    np.savez(tmp_path / "texts.npz", **arrays)
    return f"--config.data.path={tmp_path / 'texts.npz'}"


@pytest.mark.slow
def test_texts_are_classified(labelled, tmp_path):
    assert runs.launched(tmp_path / "run", labelled, "--config.steps=40", config=f"{LANGUAGE}:classes") == 0
    rows = {row["network"]: row for row in runs.results(tmp_path / "run")}
    assert rows["teacher"]["accuracy"] > 0.8
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["classes"] == ["low", "high"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Confusion matrix of student" in page
    assert "Agreement of the networks" in page
    assert "There are no images to show" not in page


VIT = """
from ml_collections import ConfigDict

def get_config(mode=""):
    c = ConfigDict()
    c.batch, c.steps = 64, 6
    c.data = dict(name="digits", augment=("pad_crop:1",))
    c.networks = dict(student=dict(source="trained", model="vit", patch=4, layers=1, width=16, heads=2, hidden=32))
    c.terms = dict(task=dict(method="cross_entropy"))
    c.optimizer = dict(name="adam")
    c.learning_rate = 3e-3
    c.evaluate = dict(every=3)
    return c
"""


def test_a_vit_trains_on_images(tmp_path):
    (tmp_path / "vit.py").write_text(VIT)
    assert runs.launched(tmp_path / "run", config=str(tmp_path / "vit.py")) == 0
    losses = [line["student/nll"] for line in runs.lines(tmp_path / "run") if "student/nll" in line]
    assert losses[1] < losses[0]
