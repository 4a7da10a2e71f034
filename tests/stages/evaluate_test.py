"""Stages that evaluate: the networks and pairs that they measure, and refusals."""

import dataclasses
import pathlib

import pytest

from jaxdistill.build.weights import DONE
from jaxdistill.config import load
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run
from runs import parsed, with_evaluate


@pytest.fixture(scope="module")
def stage():
    return run.prepare(parsed(), pathlib.Path("nowhere"))["evaluate"]


def test_all_networks_are_measured_unless_some_are_named(stage):
    assert stage.kind.measured(with_evaluate(stage, networks=())) == ["slow", "student", "teacher"]
    assert stage.kind.measured(with_evaluate(stage, networks=("slow",))) == ["slow"]
    assert stage.kind.measured(with_evaluate(stage, split="none")) == []


def test_each_pair_is_compared_once(stage):
    pairs = ("slow:student", "slow:teacher")
    compared = stage.kind.pairs(with_evaluate(stage, pairs=pairs), "teacher")
    assert compared == [("student", "teacher"), ("slow", "teacher"), ("slow", "student")]
    assert stage.kind.pairs(with_evaluate(stage, pairs=()), "") == []


def test_a_stage_is_done_once_its_results_are_written(stage, tmp_path):
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / DONE).write_text("{}")
    assert not stage.kind.is_done(stage, tmp_path)
    (tmp_path / "results.json").write_text("[]")
    assert stage.kind.is_done(stage, tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(pairs=("slow",)), "evaluate.pairs has 'slow'; a pair is 'network:reference'"),
        (dict(pairs=("slow:slow",)), "a pair is 'network:reference', two of"),
        (dict(pairs=("slow:techer",)), "must be an existing name, got 'techer'. Did you mean 'teacher'"),
        (dict(metrics=("accuracy",)), "evaluate.pairs compares nothing; name some of"),
    ],
)
def test_pairs_that_compare_nothing_are_refused(stage, changed, message):
    with pytest.raises(UserError, match=message):
        stage.kind.check(with_evaluate(stage, **changed))


def test_metrics_of_fidelity_need_a_reference_or_pairs(stage):
    alone = {name: network for name, network in stage.networks.items() if name != "teacher"}
    changed = with_evaluate(dataclasses.replace(stage, networks=alone), networks=("student",), pairs=())
    with pytest.raises(UserError, match="compare with a reference; set evaluate.reference to one of"):
        changed.kind.check(changed)


def test_its_program_has_the_shapes_of_outputs_that_are_not_cached_yet(tmp_path):
    """The plan for devices that are absent compiles evaluations, before any stage has run."""
    evaluation = run.prepare(load.load("tables/wine:smoke"), tmp_path)["evaluate"]
    *_, batch = evaluation.kind.programs(evaluation)["evaluation"]().shapes
    assert batch["cached/teacher/logits"].shape == (1, 32, 3)
    assert batch["cached/teacher/logits"].dtype == "float16"
