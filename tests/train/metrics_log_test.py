"""Logs of training: lines of a resumed run come once, and JSON holds every number."""

import errno
import io
import json
import math
import sys
import time

import pytest

from jaxdistill.errors import UserError
from jaxdistill.trackers.tracker import Tracker
from jaxdistill.train.metrics_log import MetricsWriter, ProgressLines, Trackers, make_progress


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def write(workdir, stage, start, steps):
    writer = MetricsWriter(workdir, stage, start)
    for step in steps:
        writer.write(step, {"loss": step / 3})
    writer.close()


def test_lines_after_the_step_that_is_resumed_are_dropped(tmp_path):
    write(tmp_path, "teacher", 0, [1, 2])
    write(tmp_path, "student", 0, [1, 2, 3])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('[1]\n{"stage": "student", "step": 4, "lo')  # the half line of a killed run
    write(tmp_path, "student", 2, [3, 4])
    assert [(line["stage"], line["step"]) for line in lines(tmp_path)] == [
        ("teacher", 1),
        ("teacher", 2),
        *(("student", step) for step in (1, 2, 3, 4)),
    ]


@pytest.mark.parametrize(
    ("value", "written"), [(1 / 3, 0.3333333), (math.nan, None), (math.inf, None), ("test", "test")]
)
def test_numbers_have_seven_digits_or_are_null(tmp_path, value, written):
    writer = MetricsWriter(tmp_path, "train", 0)
    writer.write(1, {"value": value})
    writer.close()
    assert lines(tmp_path) == [{"stage": "train", "step": 1, "value": written}]


def test_without_a_terminal_progress_is_lines_at_intervals_even_while_a_step_lasts(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    progress = make_progress("distil", 0, 8)
    assert type(progress) is ProgressLines
    progress.close()
    assert log.getvalue() == "stage distil: step 0 of 8\n"
    log.seek(0)
    log.truncate()
    progress = ProgressLines("distil", 2, 8, seconds=0.02)
    until = time.monotonic() + 5
    while log.getvalue().count("\n") < 2 and time.monotonic() < until:
        time.sleep(0.01)
    progress.show(4, loss=0.5, learning_rate=0.1, wait=0.25)
    progress.print("stage distil: a note")
    progress.close()
    before = log.getvalue()
    time.sleep(0.05)
    assert log.getvalue() == before
    assert "\r" not in before
    lines = before.splitlines()
    assert lines[:2] == ["stage distil: step 2 of 8", "stage distil: step 2 of 8, still after 0 s"]
    assert "stage distil: a note" in lines
    last = [line for line in lines if line.startswith("stage distil: step")][-1]
    assert last.startswith("stage distil: step 4 of 8, loss 0.5, rate 0.1, data_wait 25%")
    assert last.endswith(" s left")


class Broken(Tracker):
    """A tracker whose service answers from step 2 on; it records what it gets."""

    begun, written, closed = [], [], []

    def __init__(self, workdir, stage, start):
        super().__init__(workdir, stage, start)
        self.begun.append(stage)

    def write(self, step, values):
        if step < 2:
            raise OSError(errno.ENOSPC if values["loss"] < 0 else errno.ECONNREFUSED, "no\nservice")
        self.written.append((self.stage, self.start, step, values))

    def write_results(self, rows):
        self.written.append(rows)

    def close(self):
        self.closed.append(self.stage)


def test_trackers_get_numbers_and_their_failures_are_notes(tmp_path):
    notes = []
    name = f"{__name__}:Broken"
    trackers = Trackers((name, "tensorboard", name), tmp_path, "distil", 0, log=notes.append)
    trackers.write(0, {"loss": 1.0})
    trackers.write(2, {"loss": 1.0, "split": "test", "epoch": 1, "kept": True, "rate": math.nan})
    trackers.write_results([{"network": "student", "accuracy": 0.5, "nll": None}])
    trackers.close()
    [(stage, start, step, values), rows] = Broken.written
    assert (stage, start, step, {*values}) == ("distil", 0, 2, {"loss", "epoch", "rate"})
    assert rows == {"student": {"accuracy": 0.5}}
    assert Broken.begun == Broken.closed == ["distil"]
    error = "ConnectionRefusedError: [Errno 111] no"
    assert notes == [f"note: tracker '{name}' lacks step 0, which metrics.jsonl has ({error})"]
    with pytest.raises(OSError, match="service"):
        trackers.write(1, {"loss": -1.0})
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["distil"]


def test_the_name_of_no_tracker(tmp_path):
    with pytest.raises(UserError, match="trackers must be a tracker, got 'wandbb'. Did you mean 'wandb'"):
        Trackers(("wandbb",), tmp_path, "distil", 0, log=print)
