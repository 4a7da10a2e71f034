"""Runs of MLflow, read back from a store in a file."""

import json
import sys

import pytest

from jaxdistill.errors import UserError
from jaxdistill.trackers.mlflow import MLflow

CONFIG = {"stages": {"distil": {"kind": "train", "batch": 64, "steps": 8}}}


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client of the store that the tracker writes to."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
    return mlflow.MlflowClient()


@pytest.mark.slow  # a new store takes seconds
def test_stages_and_launches_are_one_run(tmp_path, client):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for stage, start, steps in (("distil", 0, (1, 2)), ("distil", 2, (3,)), ("evaluate", 0, ())):
        tracker = MLflow(folder, stage, start)
        [run] = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
        assert run.info.status == "RUNNING"
        for step in steps:
            tracker.write(step, {"loss": step / 4, "0/loss": 1.0})
        if not steps:
            tracker.write_results({"student": {"accuracy": 0.5, "accuracy:a#b": 0.25, "accuracy:../x//y/": 0.75}})
        tracker.close()
    run = client.get_run(json.loads((folder / "trackers.json").read_text())["mlflow"])
    assert (run.info.status, run.info.run_name, run.data.params["distil/batch"]) == ("FINISHED", "a", "64")
    history = client.get_metric_history(run.info.run_id, "distil/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert run.data.metrics["evaluate/student/accuracy"] == 0.5
    assert run.data.metrics["evaluate/student/accuracy:a-23-b"] == 0.25
    assert 0.75 in run.data.metrics.values()
    (folder / "trackers.json").write_text('{"mlflow": "nosuch"}')
    with pytest.raises(UserError, match=r"trackers must be accepted by MLflow, got .*nosuch.* Set MLFLOW_TRACKING_URI"):
        MLflow(folder, "distil", 0)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"stages\.a\.trackers must have the library .* 'jaxdistill\[mlflow\]', or lea"):
        MLflow.check("stages.a.trackers")
