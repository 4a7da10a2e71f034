"""Finished runs are read, and those that cannot be compared are refused."""

import json

import pytest

from compared_runs import write_run
from jaxdistill.compare.finished_run import read_run, read_runs
from jaxdistill.errors import UserError


def test_a_run_is_read(tmp_path):
    run = read_run(write_run(tmp_path / "a", seed=3) + "/")
    assert (run.name, len(run.rows), run.launch["commit"][:3]) == (str(tmp_path / "a"), 2, "abc")
    [member] = run.members()
    assert (member.seed, member.lane, member.rows) == ("3", None, run.rows)
    assert member.settings["distil", "terms.kd.temperature"] == "4.0"
    assert {key for key, _ in member.setting} == {key for key in member.settings if key[1].split(".")[-1] != "seed"}


def test_a_student_is_compared_with_its_control_without_a_key_for_it(tmp_path):
    folder = write_run(tmp_path / "a", pairs=[{"network": "distilled", "reference": "teacher"}])
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    task = {"task": {"method": "cross_entropy", "student": "student", "teacher": ""}}
    config["stages"]["alone"] = {"networks": {"student": {"model": "mlp"}}, "terms": task}
    frozen = {"model": "mlp", "source": "frozen"}
    config["stages"]["distil"]["terms"]["kd"]["teacher"] = "teacher"
    config["stages"]["evaluate"]["networks"] = {
        "alone": {**frozen, "weights": "stage:alone"},
        "distilled": {**frozen, "weights": "stage:distil"},
    }
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert read_run(folder).pairs == [("distilled", "alone"), ("distilled", "teacher")]


def test_a_lane_is_the_run_of_its_settings(tmp_path):
    sweep = {"seed": [0, 1], "terms": {"kd": {"temperature": [4, 2]}}}
    swept = read_run(write_run(tmp_path / "a", sweep=sweep, lanes=(0.5, 0.25)))
    runs = [read_run(write_run(tmp_path / "b")), read_run(write_run(tmp_path / "c", seed=1, temperature=2.0))]
    for lane, run in zip(swept.members(), runs, strict=True):
        assert lane.setting == run.members()[0].setting
    assert [lane.seed for lane in swept.members()] == ["0", "1"]
    assert [[row["accuracy"] for row in lane.rows] for lane in swept.members()] == [[0.5, 0.5], [0.5, 0.25]]


def test_folders_that_cannot_be_compared(tmp_path):
    first = write_run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text(json.dumps({"stages": {"a": {}, "b": {"kind": "evaluate"}}}))
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "config.json").write_text(json.dumps({"stages": {"a": {}}}))
    (tmp_path / "link").symlink_to(first)
    write_run(tmp_path / "classes", classes=["a", "b"])
    write_run(tmp_path / "tokens", unit="token")
    write_run(tmp_path / "validation", split="validation")
    for name, message in (
        ("empty", "must be the folder of a run, got"),
        ("nosuch", "must be the folder of a run, got"),
        ("unfinished", r"is unfinished: it has no results\.json\. Give its command again"),
        ("trained", r"is never evaluated: it has no results\.json\. Add a stage of kind='evaluate'"),
        ("link", "the same run. Leave one out"),
        ("classes", r"must be of the task of .* whose classes are 2 \(a, b\) .* and not 3"),
        ("validation", "whose examples are 6 of the validation split and not 6 of the test split"),
        ("tokens", "whose predictions are token and not example"),
    ):
        with pytest.raises(UserError, match=message):
            read_runs([first, str(tmp_path / name)])
    with pytest.raises(UserError, match="at least two runs"):
        read_runs([first])
    assert len(read_runs([write_run(tmp_path / "lanes", sweep={"seed": [0, 1]}, lanes=(0.5, 0.25))])) == 1


def test_a_config_that_cannot_be_read_is_compared_as_it_is_written(tmp_path):
    folder = tmp_path / "a"
    write_run(folder)
    config = json.loads((folder / "config.json").read_text())
    config["stages"]["distil"]["terms"]["kd"]["method"] = "lab_that_is_absent:KD"
    (folder / "config.json").write_text(json.dumps(config))
    assert read_run(str(folder)).settings["distil", "terms.kd.method"] == "'lab_that_is_absent:KD'"
