"""The results of an evaluation as files: one of random networks, for what they find is not the matter here."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import runs
from jaxdistill import launch
from jaxdistill.config import load
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
def measured(stage):
    """The evaluation, and the other arguments of `write_results`."""
    known = jax.jit(stage.init)()[1]
    (found,) = evaluate.SplitEvaluator(stage.runs).evaluate({}, {}, known)
    looked = saliency.compute_saliency(stage, known, found.index[results.disagreements(stage, found)])
    costs = cost.measure(stage.runs, known)
    return [found], dict(costs=costs, saliency=looked, pictures={}, texts=[])


@pytest.fixture(scope="module")
def workdir(stage, measured, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    results.write_results(folder, stage.runs, measured[0], **measured[1])
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


def test_rows_of_several_evaluations_carry_their_stage_and_split(stage, measured, tmp_path, workdir):
    stages = {"train": {}, "clean": {"kind": "evaluate"}, "noisy": {"kind": "evaluate"}}
    (tmp_path / "config.json").write_text(json.dumps({"stages": stages}))
    alone = json.loads((workdir / "results.json").read_text())
    for name, split in (("clean", "test"), ("noisy", "validation")):
        evaluated = runs.with_evaluate(dataclasses.replace(stage, name=name), split=split)
        results.write_results(tmp_path, evaluated.runs, measured[0], **measured[1])
        assert json.loads((tmp_path / name / "results.json").read_text()) == alone
        assert json.loads((tmp_path / "evaluation.json").read_text())["split"] == split  # that of the last
    rows = report.read_results(tmp_path)
    names = ("teacher", "student", "slow")
    assert [(row["network"], row["evaluation"], row["split"]) for row in rows] == [
        *((name, "clean", "test") for name in names),
        *((name, "noisy", "validation") for name in names),
    ]
    assert {key: value for key, value in rows[4].items() if key not in ("evaluation", "split")} == alone[1]
    assert (tmp_path / "clean" / "predictions.npz").is_file()
    assert report.read_summary(tmp_path).columns[:3] == ["network", "evaluation", "split"]


TARGETS = np.stack([[1000 + 7 * x if x % 5 else np.nan for x in range(30)], np.arange(30) / 3], -1)
LABELS = np.stack([np.where(np.arange(30) == 29, np.nan, np.arange(30) % 2), np.arange(30) % 3 == 0], -1)
SUPERVISED = {
    "regression": dict(data=dict(targets=("far", "near")), method="gaussian_likelihood"),
    "quantile_regression": dict(data=dict(targets=("far", "near")), method="quantile_regression"),
    "multi_label": dict(data=dict(labels=("odd", "third")), method="binary_cross_entropy"),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Thirty rows, of which some have no number `far`, and the last has no `odd`."""
    path = tmp_path_factory.mktemp("table") / "a.csv"
    rows = [",".join(map(str, (x, *TARGETS[x], *LABELS[x]))).replace("nan", "") for x in range(30)]
    path.write_text("\n".join(["x,far,near,odd,third", *rows]))
    return str(path)


@pytest.fixture(params=SUPERVISED)
def supervised(request, table, tmp_path):
    """The folder of the results of two random networks on the last 15 rows."""
    network, given = dict(source="trained", model="mlp", widths=(4,)), SUPERVISED[request.param]
    data = dict(
        name="table",
        path=table,
        columns=("x",),
        transforms=("standardize",),
        splits=dict(train="[:50%]", test="[50%:]"),
        **given["data"],
    )
    terms = {f"of_{name}": dict(method=given["method"], student=name) for name in ("student", "teacher")}
    keys = dict(task=request.param, data=data, batch=8, steps=1, terms=terms, evaluate=dict(split="test"))
    stage = run.prepare(load.stages(keys | dict(networks=dict(student=network, teacher=network))), tmp_path)["train"]
    stage = runs.with_evaluate(stage, metrics=stage.data.task.metrics, pairs=("student:teacher",))
    state, frozen = jax.jit(stage.init)({})
    evaluations = evaluate.SplitEvaluator(stage.runs).evaluate(state.params, state.variables, frozen)
    costs = {"student": {}, "teacher": {}}
    results.write_results(tmp_path, stage.runs, evaluations, costs=costs, pictures={}, texts=[])
    return tmp_path


def measure_stored(arrays, name):
    """Metrics from what is stored of a network."""
    if "labels" in arrays:
        probability, labels = arrays[f"probability/{name}"].astype(np.float64), arrays["labels"]
        nats = -np.log(np.where(labels > 0, probability, 1 - probability))
        return {"binary_nll": nats[~np.isnan(labels)].mean()}
    error = arrays[f"mean/{name}"] - arrays["target"]
    found = {"rmse": np.sqrt(np.nanmean(error**2, 0)).mean()}
    if f"deviation/{name}" in arrays:
        deviation = arrays[f"deviation/{name}"]
        nats = np.log(2 * np.pi) / 2 + np.log(deviation) + (error / deviation) ** 2 / 2
        return found | {"gaussian_nll": np.nanmean(nats, 0).mean()}
    median = np.median(arrays[f"quantiles/{name}"], -1)
    return found | {"mae": np.nanmean(np.abs(median - arrays["target"]), 0).mean()}


def test_labels_and_numbers_are_stored_as_they_are_in_the_data(supervised):
    arrays = report.read_predictions(supervised / "predictions.npz")
    rows = {row["network"]: row for row in runs.results(supervised)}
    truth = {"labels": LABELS[15:]} if "labels" in arrays else {"target": TARGETS[15:]}
    assert {name for name in arrays if "/" not in name} == {"index", *truth}
    for name, expected in truth.items():
        np.testing.assert_allclose(arrays[name], expected, rtol=1e-6)
    for name in ("student", "teacher"):
        found = measure_stored(arrays, name)
        assert found == pytest.approx({key: rows[name][key] for key in found}, rel=1e-5)
        scores = {key.split("/")[1]: x for key, x in arrays.items() if key.startswith("score/") and key.endswith(name)}
        assert len(scores) == 3
        assert {key: x.mean() for key, x in scores.items()} == pytest.approx(
            {key: rows[name][key] for key in scores}, rel=1e-5
        )


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
