"""A whole run, from the teacher to the report: what it leaves, and what happens to one that is cut off."""

import functools
import json
import pathlib
import shutil
import signal

import jax.numpy as jnp
import numpy as np
import pytest

import npz_files
import runs
from jaxdistill.pipeline import run
from jaxdistill.train import checkpoint
from runs import launched

SINGLE = runs.TINY.replace("tiny.py", "single.py")
IMAGES = np.random.default_rng(1).integers(0, 256, (40, 5, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    assert launched(workdir) == 0
    return workdir


def test_files_of_a_run(whole, capsys):
    rows = runs.results(whole)
    assert [row["network"] for row in rows] == ["teacher", "student", "slow"]
    assert rows[0]["parameters"] == 64 * 24 + 24 + 24 * 10 + 10
    assert rows[0]["flops"] == 2 * (64 * 24 + 24 * 10)
    assert rows[0]["agreement"] == 1.0
    assert {"accuracy", "f1", "nll", "ece", "agreement"} <= set(rows[1])
    config = json.loads((whole / "config.json").read_text())
    assert config["stages"]["distil"]["terms"]["kd"]["temperature"] == 2.0
    assert config["stages"]["distil"]["networks"]["student"]["dtype"] == "float32"  # defaults are written out
    launches = json.loads((whole / "environment.json").read_text())
    assert launches[0]["packages"]["jax"]
    assert launches[0]["devices"]["number"] == 8
    assert launches[0]["commit"]
    page = (whole / "report.html").read_text()
    assert "<svg" in page
    assert "slow" in page
    predictions = np.load(whole / "predictions.npz")
    assert len(predictions["label"]) == 360
    pairs = json.loads((whole / "evaluation.json").read_text())["pairs"]
    found = [("student", "teacher"), ("slow", "teacher"), ("slow", "student")]
    assert [(pair["network"], pair["reference"]) for pair in pairs] == found
    assert pairs[0]["kl"] == rows[1]["kl"] > 0
    accuracy = (predictions["prediction/student"] == predictions["label"]).mean()
    np.testing.assert_allclose(rows[1]["accuracy"], accuracy, rtol=1e-6)


@pytest.mark.slow
def test_lines_of_metrics(whole):
    lines = [line for line in runs.lines(whole) if line["stage"] == "distil"]
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == [2, 4, 6, 8, 10, 12]
    for line in trained:
        weight = min(1.0, (line["step"] - 1) / 8)
        np.testing.assert_allclose(line["loss"], line["task"] + weight * line["kd"], rtol=1e-5)
        np.testing.assert_allclose(line["epoch"], line["step"] * 64 / 1077, rtol=1e-5)
    evaluated = [line for line in lines if "split" in line]
    assert [line["step"] for line in evaluated] == [4, 8, 12]
    assert {"student/accuracy", "student/nll", "slow/accuracy", "slow/nll"} <= set(evaluated[0])


def test_tensorboard_reads_the_events(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole / "tensorboard" / "distil"))
    events.Reload()
    read = [(event.step, event.value) for event in events.Scalars("kd")]
    expected = [(line["step"], line["kd"]) for line in runs.lines(whole) if line["stage"] == "distil" and "kd" in line]
    np.testing.assert_allclose(read, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_best_is_kept_beside_the_latest(whole):
    lines = [line for line in runs.lines(whole) if line["stage"] == "distil" and "slow/nll" in line]
    best = min(lines, key=lambda line: line["slow/nll"])["step"]
    assert json.loads((whole / "distil" / "done.json").read_text())["step"] == best
    assert set(checkpoint.steps_in(whole / "distil" / "checkpoints")) == {8, 12, best}


def test_stages_that_are_done_are_skipped(whole, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*/checkpoints/*/*/*")}
    assert launched(whole) == 0
    said = capsys.readouterr().out
    assert "stage teacher: done before" in said
    assert "accuracy" in said
    assert {path: path.stat().st_mtime_ns for path in whole.glob("*/checkpoints/*/*/*")} == before


def test_inputs_of_stages_that_are_done_are_compared(whole, monkeypatch):
    compared = []
    monkeypatch.setattr(run.inputs, "verify", lambda stage, _, is_done: compared.append((stage.name, is_done)))
    assert launched(whole) == 0
    assert compared == [("teacher", True), ("distil", True), ("evaluate", True)]


def assert_same_run(workdir, whole):
    for stage in ("teacher", "distil"):
        ours, theirs = (runs.weights(folder, stage, 12) for folder in (workdir, whole))
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{stage} {name}")
    assert runs.lines(workdir) == runs.lines(whole)
    assert runs.results(workdir) == runs.results(whole)


@pytest.mark.parametrize(
    "moments",
    [(("distil", 5, 1 + 12 + 1 + 5),), (("teacher", 1, 2), ("teacher", 12, 12), ("distil", 4, 6), ("distil", 11, 9))],
)
def test_stopped_and_resumed_ends_with_the_same_bits(whole, tmp_path, capsys, moments):
    """Asked to stop at odd moments: saves, says how to go on, and then ends as if nothing had happened."""
    for stage, at, check in moments:
        assert launched(tmp_path / "run", stop=runs.stop_at(check)) == 128 + signal.SIGTERM
        said = capsys.readouterr().err
        assert f"stage '{stage}'; step {at} of 12 is saved" in said
        assert "The same command again continues from there" in said
    assert launched(tmp_path / "run") == 0
    assert f"stage distil: resumes at step {moments[-1][1]} of 12" in capsys.readouterr().out
    assert_same_run(tmp_path / "run", whole)
    for folder, resumed in ((whole, False), (tmp_path / "run", True)):
        assert json.loads((folder / "distil" / "done.json").read_text()).get("resumed", False) == resumed


@pytest.mark.slow
def test_a_notice_in_a_last_evaluation_or_save_or_between_stages_is_obeyed(whole, tmp_path, capsys):
    """Checks come before each stage, after each dispatch, before each piece of an evaluation, and at the end."""
    workdir = tmp_path / "run"
    for check, place, done in (
        (1, "teacher", []),
        (1 + 12 + 1, "distil", ["teacher"]),
        (2 + 12 + 1, "evaluate", ["distil", "teacher"]),
        (3 + 1, "evaluate", ["distil", "teacher"]),
        (3 + 1 + 1, "evaluate", ["distil", "evaluate", "teacher"]),
    ):
        assert launched(workdir, stop=runs.stop_at(check)) == 128 + signal.SIGTERM
        assert f"stopped by a signal in stage '{place}'; what it has finished is saved" in capsys.readouterr().err
        assert sorted(path.parent.name for path in workdir.glob("*/done.json")) == done
    assert launched(workdir) == 0
    assert_same_run(workdir, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flag", ["--config.steps_per_call=3", pytest.param("--config.data.resident=no", marks=pytest.mark.slow)]
)
def test_several_steps_per_dispatch_or_streamed_data_are_the_same_run(whole, tmp_path, flag):
    """Three steps do not divide the four between evaluations; the rest is done one by one."""
    assert launched(tmp_path, flag) == 0
    for stage in ("teacher", "distil"):
        ours, theirs = (runs.weights(folder, stage, 12) for folder in (tmp_path, whole))
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-4, atol=2e-6, err_msg=f"{stage} {name}")


def copied(whole, tmp_path):
    """A run whose last stage is not done."""
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    for stage in ("distil", "evaluate"):
        (workdir / stage / "done.json").unlink()
    return workdir


def test_a_changed_config_is_refused_with_the_difference(whole, tmp_path, capsys):
    workdir = copied(whole, tmp_path)
    assert launched(workdir, "--config.terms.kd.temperature=3", "--config.stages.distil.steps=20") == 2
    said = capsys.readouterr().err
    assert "terms.kd.temperature: 2.0 -> 3.0" in said
    assert "stages.distil.steps: 12 -> 20" in said
    assert "name another workdir" in said


def test_a_damaged_checkpoint_stops_before_anything_is_lost(whole, tmp_path, capsys):
    workdir = copied(whole, tmp_path)
    latest = workdir / "distil" / "checkpoints" / "12"
    for path in (latest / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:-40])
    assert launched(workdir) == 2
    said = capsys.readouterr().err
    assert "checkpoint of step 12" in said
    assert "the step before, 8, may be good" in said
    assert f"remove {latest} and repeat the command" in said
    shutil.rmtree(latest)  # as the message says
    assert launched(workdir) == 0
    assert_same_run(workdir, whole)


@pytest.mark.slow
def test_a_damaged_checkpoint_of_a_finished_stage(whole, tmp_path, capsys):
    workdir = copied(whole, tmp_path)
    shutil.rmtree(workdir / "distil")
    latest = workdir / "teacher" / "checkpoints" / "12"
    for path in (latest / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:-40])
    assert launched(workdir) == 2
    said = capsys.readouterr().err
    assert f"remove {latest} and {workdir / 'teacher' / 'done.json'} and repeat" in said
    shutil.rmtree(latest)  # as the message says
    (workdir / "teacher" / "done.json").unlink()
    assert launched(workdir) == 0
    assert_same_run(workdir, whole)


BROKEN = {
    "config.json": b"\x00\xff",
    "environment.json": b"{}",
    "teacher/done.json": b"{",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(whole, tmp_path, capsys, name):
    workdir = copied(whole, tmp_path)
    (workdir / name).write_bytes(BROKEN[name])
    assert launched(workdir) == 2
    assert name.split("/")[-1] in capsys.readouterr().err


def test_foreign_folders_are_left_alone(tmp_path, capsys):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "metrics.jsonl").write_text("mine\n")
    assert launched(workdir) == 2
    assert "no config.json of the run that wrote them" in capsys.readouterr().err
    assert (workdir / "metrics.jsonl").read_text() == "mine\n"


def test_results_that_are_gone_are_measured_again(whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    (workdir / "results.json").unlink()
    assert launched(workdir) == 0
    assert runs.results(workdir) == runs.results(whole)


def test_a_config_that_only_trains_ends_well(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from ml_collections import ConfigDict\n\ndef get_config(mode=''):\n    c = ConfigDict()\n"
        "    c.steps, c.batch, c.data = 3, 64, dict(name='digits')\n"
        "    c.networks = dict(student=dict(model='mlp', widths=(4,)))\n"
        "    c.terms = dict(task=dict(method='cross_entropy'))\n    return c\n"
    )
    assert launched(tmp_path / "run", config=str(file)) == 0
    assert "train/checkpoints" in capsys.readouterr().out


def test_a_missing_teacher_is_reported(whole, tmp_path, capsys):
    workdir = copied(whole, tmp_path)
    shutil.rmtree(workdir / "teacher" / "checkpoints")
    assert launched(workdir) == 2
    assert "no checkpoints in" in capsys.readouterr().err


@pytest.mark.slow
def test_half_a_line_of_metrics_is_dropped(whole, tmp_path):
    workdir = copied(whole, tmp_path)
    shutil.rmtree(workdir / "distil")
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "distil", "st')
    assert launched(workdir) == 0
    assert runs.lines(workdir) == runs.lines(whole)


def test_nan_names_the_term_and_keeps_the_last_good_checkpoint(tmp_path, capsys, monkeypatch):
    from jaxdistill.methods import kd

    honest = kd.KD.__call__

    def broken(self, student, teacher, batch):
        values = honest(self, student, teacher, batch)
        return values + jnp.where(batch["view"].max() > 0, jnp.nan, 0.0)  # from the second epoch on

    monkeypatch.setattr(kd.KD, "__call__", broken)
    flags = "--config.stages.teacher.steps=4", "--config.steps=40"
    assert launched(tmp_path, *flags) == 1
    said = capsys.readouterr().err
    assert "term 'kd' is nan at step 17 of stage 'distil'; the last good checkpoint is step 16" in said
    for array in runs.weights(tmp_path, "distil", 16).values():
        assert np.isfinite(array.astype(np.float32)).all()


def test_overflowing_weights_stop_the_run(tmp_path, capsys):
    assert (
        launched(tmp_path, "--config.stages.teacher.learning_rate=1e38", "--config.stages.teacher.optimizer.name=sgd")
        == 1
    )
    assert "of stage 'teacher'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_starts_from_the_weights_of_another(whole, tmp_path, capsys):
    other = tmp_path / "other"
    for weights in (f"{whole}/teacher", f"{whole}/teacher/checkpoints/12"):
        shutil.rmtree(other, ignore_errors=True)
        assert launched(other, f"--config.networks.teacher.weights={weights}") == 0
        lines = [line for line in runs.lines(other) if line["stage"] == "distil"]
        assert lines == [line for line in runs.lines(whole) if line["stage"] == "distil"]
    shutil.rmtree(other)
    capsys.readouterr()
    foreign = f"--config.networks.teacher.weights={whole}/distil#student"
    assert launched(other, foreign) == 2
    said = capsys.readouterr().err
    assert "- params.student.head.kernel: [[24, 10], 'float32']" in said
    assert "+ params.student.head.kernel: [[8, 10], 'float32']" in said
    assert not (pathlib.Path(other) / "teacher").exists()


def test_a_run_does_not_go_on_with_data_that_changed_in_place(tmp_path, capsys):
    """In one process, which must not remember what the first launch read; and with the first data it does go on."""
    path = npz_files.write_images(tmp_path, rows=40, validation_image=IMAGES, validation_label=np.arange(40) % 3)
    kept = pathlib.Path(path).read_bytes()
    flags = "--config.data.name=npz", f"--config.data.path={path}", "--config.data.augment=()", "--config.batch=16"
    launch = functools.partial(launched, tmp_path / "run", *flags, config=SINGLE)
    assert launch(stop=runs.stop_at(5)) == 128 + signal.SIGTERM
    changed = IMAGES.copy()
    changed[7, 0, 0, 0] ^= 1
    npz_files.write_images(tmp_path, rows=40, validation_image=changed, validation_label=np.arange(40) % 3)
    assert launch() == 2
    error = capsys.readouterr().err
    assert "must read what the run in" in error
    assert f"data, the validation split of {path}" in error
    pathlib.Path(path).write_bytes(kept)
    assert launch() == 0
    npz_files.write_images(tmp_path, rows=24, validation_image=IMAGES, validation_label=np.arange(40) % 3)
    (stage,) = run.prepare(runs.parsed(*flags, config=SINGLE), tmp_path).values()
    assert len(stage.data.train) == 24
