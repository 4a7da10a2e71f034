"""The results of an evaluation as files: one of random networks, for what they find is not the matter here."""

import json

import jax
import numpy as np
import pytest

import runs
from jaxdistill import launch
from jaxdistill.pipeline import run
from jaxdistill.report import write as report
from jaxdistill.stages import cost, evaluate, results, saliency


@pytest.fixture(scope="module")
def stage():
    config, _ = launch.parse(["launch", "--config", runs.TINY])
    stage = run.prepare(config, None)["evaluate"]
    metrics = ("accuracy", "agreement", "copied_errors", "cka", "per_class")
    return runs.with_evaluate(stage, metrics=metrics, saliency=True)


@pytest.fixture(scope="module")
def workdir(stage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    known = jax.jit(stage.init)()[1]
    (found,) = evaluate.SplitEvaluator(stage.runs).evaluate({}, {}, known)
    looked = saliency.compute_saliency(stage, known, found.index[results.disagreements(stage, found)])
    costs = cost.measure(stage.runs, known)
    results.write_results(folder, stage.runs, [found], costs=costs, saliency=looked, pictures={})
    return folder


def test_pairs_have_what_compares_and_rows_have_only_numbers(workdir):
    rows, evaluation = (json.loads((workdir / f"{name}.json").read_text()) for name in ("results", "evaluation"))
    predictions = np.load(workdir / "predictions.npz")
    assert [(pair["network"], pair["reference"]) for pair in evaluation["pairs"]] == [
        ("student", "teacher"),
        ("slow", "teacher"),
        ("slow", "student"),
    ]
    for pair in evaluation["pairs"]:
        one, other = (predictions[f"prediction/{pair[key]}"] for key in ("network", "reference"))
        np.testing.assert_allclose(pair["agreement"], (one == other).mean(), rtol=1e-6)
        assert pair["cka"]["taps"] == pair["cka"]["reference_taps"] == ["hidden1", "pooled"]
        assert -1 <= pair["saliency"] <= 1
    assert rows[1]["copied_errors"] == evaluation["pairs"][0]["copied_errors"]
    assert [*rows[1]] == [
        *("network", "parameters", "nonzero", "bytes", "flops"),
        *("accuracy", "agreement", "copied_errors"),
    ]
    assert [*evaluation["per_class"]] == ["teacher", "student", "slow"]
    assert "cka" not in evaluation


@pytest.mark.slow
def test_the_sheet_is_of_those_on_which_most_pairs_differ_and_has_their_maps(workdir):
    predictions = np.load(workdir / "predictions.npz", allow_pickle=False)
    said = {name: predictions[f"prediction/{name}"] for name in ("teacher", "student", "slow")}
    pairs = [("student", "teacher"), ("slow", "teacher"), ("slow", "student")]
    differing = sum((said[one] != said[other]).astype(int) for one, other in pairs)
    shown = predictions["sheet/index"]
    assert len(shown) == results.SHEET
    assert sorted(differing[shown]) == sorted(differing)[-results.SHEET :]
    for name in said:
        assert predictions[f"saliency/{name}"].shape == (results.SHEET, 8, 8)
        assert (predictions[f"saliency/{name}"].max((1, 2)) == 255).all()


def test_the_report_is_made_of_them(workdir):
    page = report.write_report(workdir).read_text()
    assert page.count('alt="saliency of slow') == results.SHEET
    assert "★ marks the best student of a column" in page
    assert "Meaning of the columns" in page
    assert "CKA of slow : student" in page
