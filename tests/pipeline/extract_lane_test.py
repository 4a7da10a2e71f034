"""Whole runs in lanes, each lane the run of its own settings, and one lane taken out as a run of its own."""

import json
import shutil

import numpy as np
import pytest

import runs
from jaxdistill.train import checkpoint
from runs import launched

pytestmark = pytest.mark.slow

SWEEP = "--config.sweep.seed=(0, 1)", "--config.evaluate.every=3"
STAGES = ("teacher", "distil")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    assert launched(workdir, *SWEEP) == 0
    return workdir


@pytest.fixture(scope="module")
def taken(whole, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("taken") / "run"
    assert launched(workdir, *SWEEP, "--lane=1", f"--from={whole}") == 0
    return workdir


def read(path):
    return json.loads(path.read_text())


def steps(workdir, stage):
    return checkpoint.steps_in(workdir / stage / checkpoint.FOLDER)


def rows(whole, lane):
    told = [row for row in read(whole / "lanes.json") if row["lane"] == lane]
    return [{key: value for key, value in row.items() if key != "lane"} for row in told]


def test_nothing_of_others_is_touched(whole, tmp_path):
    """Not even a folder that is called like one under way."""
    (tmp_path / "run.part").mkdir()
    (tmp_path / "run.part" / "notes.txt").write_text("precious")
    assert launched(tmp_path / "run", *SWEEP, "--lane=0", f"--from={whole}") == 0
    assert (tmp_path / "run.part" / "notes.txt").read_text() == "precious"
    assert "examples_per_second" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "seconds" not in read(tmp_path / "run" / "distil" / "done.json")


def test_a_run_in_lanes_is_the_separate_runs(whole, tmp_path):
    """Each student has the teacher of its own lane, and stands by its own best step."""
    assert launched(tmp_path, "--config.seed=1", SWEEP[1]) == 0
    for stage in STAGES:
        alone, together = (runs.weights(folder, stage, 12) for folder in (tmp_path, whole))
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][1], value, rtol=2e-3, atol=2e-4, err_msg=name)
    done, single = read(whole / "distil" / "done.json"), read(tmp_path / "distil" / "done.json")
    assert done["steps"][1] == single["step"]
    for ours, theirs in zip(rows(whole, 1), runs.results(tmp_path), strict=True):
        assert ours.keys() == theirs.keys()
        for key in ("accuracy", "nll", "ece", "agreement"):
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-3, err_msg=f"{ours['network']} {key}")


def test_results_are_the_means_of_the_lanes(whole):
    for row, *each in zip(runs.results(whole), rows(whole, 0), rows(whole, 1), strict=True):
        assert row["network"] == each[0]["network"] == each[1]["network"]
        np.testing.assert_allclose(row["nll"], np.mean([one["nll"] for one in each]), rtol=1e-6)
    assert len({row["nll"] for row in read(whole / "lanes.json")}) > 3


def test_a_lane_is_taken_out_bit_for_bit(whole, taken):
    for stage in STAGES:
        for step in steps(taken, stage):
            together, own = (runs.weights(folder, stage, step) for folder in (whole, taken))
            assert own.keys() == together.keys()
            for name, value in own.items():
                np.testing.assert_array_equal(value, together[name][1], err_msg=name)
    assert steps(taken, "distil")[-1] == 12
    assert read(taken / "distil" / "done.json")["step"] == read(whole / "distil" / "done.json")["steps"][1]


def test_an_extracted_lane_is_an_ordinary_run(whole, taken):
    """Its config has no sweep, its lines are the lane's, its results what the lanes' evaluation found of it."""
    config = read(taken / "config.json")
    assert [config["stages"][stage]["sweep"] for stage in STAGES] == [{}, {}]
    assert [config["stages"][stage]["seed"] for stage in STAGES] == [1, 1]
    theirs = {(line["stage"], line["step"], line.get("split")): line for line in runs.lines(whole)}
    for line in runs.lines(taken):
        assert not [key for key in line if key[0].isdigit()]
        both = theirs[line["stage"], line["step"], line.get("split")]
        assert {both[f"1/{key}"] for key in line if f"1/{key}" in both} == {line[k] for k in line if f"1/{k}" in both}
    assert len(runs.lines(taken)) == len(theirs)
    for ours, row in zip(runs.results(taken), rows(whole, 1), strict=True):
        np.testing.assert_allclose(ours["nll"], row["nll"], rtol=1e-5)


def test_an_unfinished_lane_goes_on_alone(whole, tmp_path):
    """From a run that was killed after step 9 of its second stage."""
    cut = shutil.copytree(whole, tmp_path / "cut")
    for gone in ("distil/checkpoints/12", "evaluate"):
        shutil.rmtree(cut / gone)
    for gone in ("distil/done.json", "results.json", "lanes.json"):
        (cut / gone).unlink()
    assert launched(tmp_path / "one", *SWEEP, "--lane=1", f"--from={cut}") == 0
    together = runs.weights(whole, "distil", 12)
    for name, value in runs.weights(tmp_path / "one", "distil", 12).items():
        np.testing.assert_allclose(value, together[name][1], rtol=2e-3, atol=2e-4, err_msg=name)
    assert [line["step"] for line in runs.lines(tmp_path / "one") if line["stage"] == "distil"] == [
        line["step"] for line in runs.lines(whole) if line["stage"] == "distil"
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((*SWEEP, "--lane=2", "--from={whole}"), "there is no such lane; there are 0 to 1"),
        (("--lane=0", "--from={whole}"), "no stage of this config has a sweep"),
        ((*SWEEP, "--lane=0"), "--lane and --from belong together"),
        ((*SWEEP, "--lane=0", "--from=nowhere"), "--from=nowhere is no workdir of a run"),
        ((*SWEEP, "--config.batch=32", "--lane=0", "--from={whole}"), "batch: 64 -> 32"),
        ((*SWEEP, "--config.stages.distil.sweep.seed=(1, 2, 3)", "--lane=0", "--from={whole}"), "'distil': 3"),
        ((*SWEEP, "--config.stages.distil.sweep.seed=(1, 2, 3)"), "for network 'teacher' was trained in 2 lanes"),
    ],
)
def test_mistakes_are_refused(whole, tmp_path, capsys, flags, message):
    assert launched(tmp_path / "new", *(flag.format(whole=whole) for flag in flags)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_workdir_that_is_there_stays(whole, taken, tmp_path, capsys):
    (tmp_path / "mine").write_text("")
    assert launched(tmp_path, *SWEEP, "--lane=1", f"--from={whole}") == 2
    assert "is there already, and is no run" in capsys.readouterr().err
    assert launched(taken, *SWEEP, "--lane=0", f"--from={whole}") == 2
    assert "holds a run of another config" in capsys.readouterr().err
    assert launched(taken, *SWEEP, "--lane=1", f"--from={whole}") == 0
