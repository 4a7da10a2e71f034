"""The plan of a run."""

import pathlib

from jaxdistill.pipeline import plan, run
from runs import parsed


def test_a_stage_is_described_by_its_data_and_its_networks():
    stage = run.prepare(parsed(), pathlib.Path("nowhere"))["evaluate"]
    lines = "\n".join(plan.describe(stage))
    assert "stage evaluate (evaluate)" in lines
    assert "data: digits test, 360 examples of (8, 8, 1), 10 classes" in lines
    assert "teacher: frozen from stage:teacher, 1,810 parameters, 3,552 FLOPs per example" in lines
    assert "slow: frozen from stage:distil, 610 parameters" in lines
    assert "taps hidden1 (24,), pooled (24,)" in lines
