"""Logs of training: lines of a resumed run come once, and JSON holds every number."""

import json
import math

import pytest

from jaxdistill.train.metrics_log import MetricsWriter


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
