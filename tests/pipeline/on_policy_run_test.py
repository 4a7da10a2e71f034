"""Runs whose networks write texts in the step: a stop, kills, eight devices, lanes, accumulation, and refusals."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import runs
from conftest import ROOT

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "written.py")
pytestmark = pytest.mark.slow


def launched(workdir, *flags):
    assert runs.launched(workdir, *flags, config=CONFIG) == 0
    return workdir


def params(workdir, stage="own"):
    arrays = runs.weights(workdir, stage, 12)
    return {name: x for name, x in arrays.items() if name.startswith("params.student")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return launched(tmp_path_factory.mktemp("written") / "run")


def test_results_have_exact_matches_and_the_stages_learn(run):
    teacher, student = runs.results(run)
    assert 0 <= student["exact_match"] <= 1
    assert np.isfinite([teacher["nll"], student["nll"]]).all()
    first = runs.weights(run, "own", 4)
    assert any(not np.array_equal(first[name], x) for name, x in params(run).items())


def test_texts_of_the_report_match_as_often_as_the_metric_counts(run, tmp_path):
    """With a teacher that has learned more, so that some answers are right."""
    flags = "--config.stages.teacher.steps=300", "--config.stages.teacher.learning_rate=1.0"
    flags += "--config.stages.evaluate.evaluate.texts=1000000", "--config.stages.teacher.optimizer.clip=0.3"
    workdir = launched(tmp_path / "run", *flags)
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    rows = {row["network"]: row for row in runs.results(workdir)}
    assert len(evaluation["texts"]) == evaluation["examples"]
    for name, row in rows.items():
        of_network = [text["networks"][name] for text in evaluation["texts"]]
        lengths = [len(text["answer"]) for text in evaluation["texts"]]
        assert np.mean([text["exact"] for text in of_network]) == pytest.approx(row["exact_match"], abs=1e-9)
        assert np.average([text["nll"] for text in of_network], weights=lengths) == pytest.approx(row["nll"], rel=1e-4)
    assert rows["teacher"]["exact_match"] > 0
    assert "Texts</h2>" in (workdir / "report.html").read_text()


@pytest.mark.parametrize("stage", ["own", "teachers"])
def test_a_run_that_was_cut_off_ends_with_the_same_bits(run, tmp_path, stage):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / stage / "done.json").unlink()
    for step in (8, 12):
        shutil.rmtree(copy / stage / "checkpoints" / str(step))
    launched(copy)
    for name, x in params(run, stage).items():
        np.testing.assert_array_equal(x, params(copy, stage)[name])


def test_texts_that_later_steps_read_again_are_restored(tmp_path):
    flag = "--config.stages.own.on_policy.staleness=2"
    whole = launched(tmp_path / "run", flag)
    ages = [line["written_age"] for line in runs.lines(whole) if "written_age" in line]
    assert ages == [(step - 1) % 3 for step in (4, 8, 12)]
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    (copy / "own" / "done.json").unlink()
    for step in (8, 12):  # step 5 of the rest reads what step 4 wrote
        shutil.rmtree(copy / "own" / "checkpoints" / str(step))
    launched(copy, flag)
    for name, x in params(whole).items():
        np.testing.assert_array_equal(x, params(copy)[name])


def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(run, tmp_path):
    copy, moments = tmp_path / "run", random.Random(0)
    words = [sys.executable, "-m", "jaxdistill.launch", "--config", CONFIG, "--workdir", str(copy)]
    for _ in range(4):
        process = subprocess.Popen(words, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(8, 25))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name, x in params(run).items():
        np.testing.assert_array_equal(x, params(copy)[name])


def test_two_devices_write_the_texts_of_eight(run, tmp_path, one_device):
    paths = (str(pathlib.Path(CONFIG).parents[1]), one_device.get("PYTHONPATH", ""))
    environment = {**one_device, "JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": ":".join(paths)}
    words = ["-m", "jaxdistill.launch", "--config", CONFIG, "--workdir", str(tmp_path)]
    subprocess.run([sys.executable, *words], env=environment, check=True, cwd=ROOT)
    for name, x in params(run).items():
        np.testing.assert_allclose(params(tmp_path)[name], x, rtol=1e-3, atol=1e-5)


def test_micro_batches_learn_from_the_texts_of_the_whole_batch(run, tmp_path):
    parts = launched(tmp_path / "run", "--config.stages.own.accumulate=2")
    for name, x in params(run).items():
        np.testing.assert_allclose(params(parts)[name], x, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("staleness", [0, 2])
def test_a_lane_writes_its_own_texts_as_the_run_alone(tmp_path, staleness):
    flag = f"--config.stages.own.on_policy.staleness={staleness}"
    run = launched(tmp_path / "alone", flag)
    lanes = launched(tmp_path / "run", flag, "--config.stages.own.sweep.learning_rate=(0.3, 0.1)")
    for name, x in params(run).items():
        np.testing.assert_allclose(params(lanes)[name][0], x, rtol=1e-3, atol=1e-5)


COLLAPSING = str(pathlib.Path(CONFIG).with_name("collapsing.py"))


def test_an_alarm_precedes_a_collapse_that_the_loss_does_not_show(tmp_path, capsys):
    assert runs.launched(tmp_path / "warned", config=COLLAPSING) == 0
    step = int(re.search(r"written_entropy is [\d.]+ at step (\d+), outside \[1, 9\]", capsys.readouterr().err)[1])
    lines = [json.loads(line) for line in (tmp_path / "warned" / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert step <= 150
    assert lines[-1]["written_repetition"] > 0.5
    # The loss is that of the student's own texts: it is better in each step after the alarm than in the one of it.
    assert max(losses[later] for later in range(step + 1, 201)) < losses[step - 1]
    assert runs.launched(tmp_path / "run", "--config.stages.collapse.on_policy.alarm=stop", config=COLLAPSING) == 1
    assert f"at step {step}, outside [1, 9], in stage 'collapse'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.stages.own.on_policy.share=2", "on_policy.share must be in [0, 1], got 2"),
        ("--config.stages.own.on_policy.writer=teachr", "on_policy.writer must be"),
        ("--config.stages.own.on_policy.tokens=10", "on_policy.tokens must be below the 10 tokens of a text"),
        ("--config.stages.own.on_policy.top_p=0", "on_policy.top_p must be"),
    ],
)
def test_bad_settings_are_one_message(tmp_path, capsys, flag, message):
    assert runs.launched(tmp_path / "run", flag, "--plan", config=CONFIG) == 2
    assert message in capsys.readouterr().err
