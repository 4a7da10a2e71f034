"""Runs of Weights & Biases in its offline mode, as its own files have them."""

import json
import sys

import pytest

from jaxdistill.errors import UserError
from jaxdistill.trackers.wandb import Wandb
from wandb_files import name_of, read_records


@pytest.mark.slow  # its service starts for each stage
def test_stages_and_launches_are_one_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_PROJECT", "digits"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    (tmp_path / "config.json").write_text('{"stages": {"distil": {"batch": 64}}}')
    for stage, start, steps in (("distil", 0, (1, 2)), ("distil", 2, (3,)), ("evaluate", 0, ())):
        tracker = Wandb(tmp_path, stage, start)
        for step in steps:
            tracker.write(step, {"loss": step / 4, "0/loss": 1.0})
        if not steps:
            tracker.write_results({"student": {"accuracy": 0.5}})
        tracker.close()
    found = [record for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")) for record in read_records(path)]
    begun = [record.run for record in found if record.HasField("run")]
    identifier = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    assert {(run.run_id, run.project, run.display_name) for run in begun} == {(identifier, "digits", tmp_path.name)}
    config = {item.key: json.loads(item.value_json) for item in begun[0].config.update}
    assert config["stages"] == {"distil": {"batch": 64}}
    lines = [
        {name_of(item): json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.HasField("history")
    ]
    assert [(line["distil/step"], line["distil/loss"]) for line in lines] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    summary = {name_of(item): item.value_json for r in found if r.HasField("summary") for item in r.summary.update}
    assert summary["evaluate/student/accuracy"] == "0.5"


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        UserError, match=r"stages\.a\.trackers must have the library .* 'jaxdistill\[wandb\]', or leave"
    ):
        Wandb.check("stages.a.trackers")


@pytest.mark.slow
def test_a_service_that_refuses(tmp_path, monkeypatch):
    pytest.importorskip("wandb").teardown()  # its settings are those of the process
    for name, value in (("WANDB_MODE", "online"), ("WANDB_BASE_URL", "http://127.0.0.1:9"), ("HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"trackers must be accepted by Weights & Biases, got .* WANDB_MODE=offline"):
        Wandb(tmp_path, "distil", 0)
