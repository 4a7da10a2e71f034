"""The log of a run has its throughput, a slow source is reported, and numbers that are not finite are named."""

import json
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest

import runs
from jaxdistill.data.dataset import Arrays
from jaxdistill.data.loader import Streamed
from jaxdistill.errors import TrainingFailed
from jaxdistill.train import loop
from jaxdistill.train.alarm import WINDOW, Alarm
from jaxdistill.train.monitor import Monitor
from jaxdistill.train.throughput import Throughput

SINGLE = runs.TINY.replace("tiny.py", "single.py")
FLOPS = 3 * 64 * 2 * (64 * 8 + 8 * 10) - 64 * 2 * 64 * 8
"""Of a step: forward, by the weights and by the inputs; the images need no gradient."""


def lines(workdir):
    read = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in read if "loss" in line]


def test_a_line_has_rates(tmp_path, capsys):
    assert runs.launched(tmp_path, "--config.peak_flops=1e9", config=SINGLE) == 0
    last = lines(tmp_path)[-1]
    assert last["model_flops_per_second"] == pytest.approx(last["examples_per_second"] / 64 * FLOPS, rel=1e-5)
    assert last["utilisation"] == pytest.approx(last["model_flops_per_second"] / 8 / 1e9, rel=1e-5)  # eight devices
    assert 0 <= last["data_wait"] < 0.5
    said = capsys.readouterr()
    assert "model GFLOP/s (" in said.out
    assert "time is spent" not in said.err


@pytest.mark.parametrize("key", ["num_threads", "prefetch"])
def test_reading_is_a_setting(key, tmp_path, capsys):
    assert runs.launched(tmp_path / "run", f"--config.data.{key}=0", config=SINGLE) == 2
    assert f"data.{key} must be at least 1 and finite, got 0" in capsys.readouterr().err
    split = Arrays(np.zeros((40, 2, 2, 1), np.uint8), np.zeros(40, np.int32))
    few, many = (Streamed(split, seed=1, batch=8, classes=2, **{key: value}) for value in (1, 6))
    for one, other in zip(few.step_inputs(3, 9), many.step_inputs(3, 9), strict=True):
        np.testing.assert_array_equal(one["index"], other["index"])


class Saved:
    """Checkpoints of two steps."""

    steps, folder = [2, 4], "runs/x/checkpoints"


def make_monitor(tmp_path, counter=None, **options):
    settings = {"start": 0, "steps": 6, "log_every": 2, "batch": 8, "examples": 16} | options
    counter = counter or Throughput(0, batch=8, devices=1)
    rate = lambda step: 0.5 * step  # noqa: E731
    return Monitor(
        "train", tmp_path, Saved, learning_rates={"rate": rate}, throughput=counter, advice="waiting", **settings
    )


def test_steps_of_a_dispatch_are_logged_when_due_with_their_own_numbers(tmp_path):
    monitor = make_monitor(tmp_path)
    monitor.record(3, {"loss": jnp.array([1.0, 2.0, 3.0])})
    monitor.record(4, {"loss": jnp.float32(4.0)})
    monitor.close()
    assert [(line["step"], line["loss"], line["epoch"], line["rate"]) for line in lines(tmp_path)] == [
        (2, 2.0, 1.0, 0.5),
        (4, 4.0, 2.0, 1.5),
    ]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"kd": [1.0, np.nan], "loss": [1.0, np.nan]}, "term 'kd' is nan at step 2 of stage 'train'; the last good"),
        ({"kd": [1.0, 1.0], "loss": [1.0, 1.0], "grad_norm": [np.inf, 1.0]}, "the gradient is inf at step 1 of"),
        (
            {"kd": [1.0, 1.0], "1/kd": [1.0, 1.0], "loss": [1.0, 1.0], "grad_norm": [1.0, np.inf]}
            | {"0/grad_norm": [1.0, 1.0], "1/grad_norm": [1.0, np.inf]},
            r"the gradient is inf at step 2 of stage 'train', in lane 1, though the values of terms \['kd'\] are",
        ),
        ({"1/kd": [1.0, np.nan], "kd": [1.0, np.nan], "loss": [1.0, np.nan]}, "term '1/kd' and 'kd' is nan at step 2"),
    ],
)
def test_the_first_number_that_is_not_finite_is_named(metrics, message, tmp_path):
    monitor = make_monitor(tmp_path)
    with pytest.raises(TrainingFailed, match=message):
        monitor.record(2, {name: jnp.array(values) for name, values in metrics.items()})
    monitor.close()


@pytest.mark.parametrize("stops", [True, False])
def test_an_alarm_stops_the_stage_or_warns(stops, tmp_path, capsys):
    monitor = make_monitor(tmp_path, steps=40, alarm=Alarm({"written_entropy": (0.5, 3.0)}, stops=stops))
    metrics = {"loss": jnp.ones(WINDOW), "written_entropy": jnp.full(WINDOW, 0.25)}
    message = "written_entropy is 0.25 at step 20, outside [0.5, 3]"
    if stops:
        with pytest.raises(
            TrainingFailed, match=re.escape(f"{message}, in stage 'train'; the last good checkpoint is")
        ):
            monitor.record(WINDOW, metrics)
    else:
        monitor.record(WINDOW, metrics)
        assert message in capsys.readouterr().err
    monitor.close()


def test_an_evaluation_returns_finite_numbers_alone(tmp_path):
    monitor = make_monitor(tmp_path)
    assert monitor.record_evaluation(2, {"split": "test", "a/accuracy": 0.5, "a/nll": math.nan}) == {"a/accuracy": 0.5}
    monitor.close()


@pytest.mark.parametrize(("wait", "warnings"), [(2.5, 1), (0.5, 0)])
def test_a_slow_source_is_reported_once_with_the_advice(tmp_path, capsys, wait, warnings):
    """On a clock set by hand: five seconds a step, of which `wait` are without data."""
    now = [0.0]
    counter = Throughput(0, batch=8, devices=1, clock=lambda: now[0])
    monitor = make_monitor(tmp_path, counter)
    for step in range(1, 5):
        now[0] += 5.0
        counter.add_wait(wait)
        monitor.record(step, {"loss": jnp.float32(1.0)})
    monitor.close()
    assert capsys.readouterr().err.count("50% of the time is spent waiting") == warnings


def test_the_advice_fits_the_place_of_the_data():
    assert "data.resident=yes" in loop.STREAMED_ADVICE
    assert "data.resident" not in loop.RESIDENT_ADVICE
