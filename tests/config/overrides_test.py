"""Flags: the path that each sets, inheritance by stages, and refusals."""

import pytest

import runs
from jaxdistill.config import load as configs
from jaxdistill.config import overrides
from jaxdistill.config.parse import FlagText
from jaxdistill.errors import UserError
from runs import parsed

SWEPT = runs.TINY.replace("tiny.py", "swept.py")


def test_overrides_reach_the_stages_that_inherit():
    stages = parsed("--config.terms.kd.temperature=5", "--config.networks.student.widths=(3,)")
    assert stages["distil"].terms["kd"].fields["temperature"] == 5.0
    assert stages["evaluate"].networks["slow"].options["widths"] == (3,)


def test_overrides_of_one_stage_leave_the_others():
    flags = (
        "--config.stages.distil.terms.kd.temperature=5",
        "--config.stages.distil.optimizer.clip=2",
        "--config.stages.distil.evaluate.every=3",
        "--config.stages.distil.batch=32",
        "--config.stages.distil.learning_rate=0.5",
    )
    before, after = (configs.to_json(parsed(*each))["stages"] for each in ((), flags))
    assert after["teacher"] == before["teacher"]
    distil = after["distil"]
    assert list(distil["terms"]) == ["kd", "task"]
    assert distil["terms"]["kd"] == before["distil"]["terms"]["kd"] | {"temperature": 5.0}
    assert distil["optimizer"] == before["distil"]["optimizer"] | {"clip": 2.0}
    assert distil["evaluate"] == before["distil"]["evaluate"] | {"every": 3}
    assert (distil["batch"], distil["learning_rate"]) == (32, 0.5)


MISTAKES = [
    (
        ("--config.terms.kd.temprature=2",),
        "terms.kd.temprature must be a key of method 'kd', got 'temprature'. Did you mean 'temperature'",
    ),
    (("--config.setps=2",), "setps must be a key of a stage, got 'setps'. Did you mean 'steps'"),
    (
        ("--config.stages.distill.steps=2",),
        "stages.distill must be an existing name, got 'distill'. Did you mean 'distil'",
    ),
    (
        ("--config.stages.teacher.terms.kd.temperature=2",),
        "stages.teacher.terms.kd must be an existing name, got 'kd'. There are ['task']",
    ),
    (("--config.batch=many",), "many"),
    (("--config.batch=2.5",), "2.5"),
    (("--config.terms=3",), "terms must be a section, got '3'"),
    (("--config.batch",), "has no value"),
    (("--config.batch", "--plan"), "--config.batch has no value; write --config.batch=VALUE"),
    (("--workdir", "--plan"), "--workdir has no value; write --workdir=VALUE"),
    (("--config", "configs/digits/kd.py"), "--config is given twice"),
    (("--noplan=3",), "noplan"),
    (("extra",), "every argument must be a flag such as --config.batch=64, got 'extra'"),
    (("--confg.batch=2",), "confg"),
    (("--wokdir=x",), "wokdir"),
]


@pytest.mark.parametrize(("flags", "message"), MISTAKES, ids=lambda x: str(x)[:40])
def test_mistakes(flags, message):
    with pytest.raises(UserError) as caught:
        parsed(*flags)
    assert message in str(caught.value)


def test_flags_of_the_top_level_come_before_those_of_a_stage():
    """In any order of the command."""
    words = ["--config.sweep.seed=(0, 1)", "--config.stages.distil.sweep.terms.kd.temperature=(1.0, 2.0)"]
    for order in (words, words[::-1]):
        sweep = parsed(*order, config=f"{SWEPT}:single")["distil"].sweep
        assert sweep.values == {"seed": (0, 1), "terms.kd.temperature": (1.0, 2.0)}


def test_a_flag_sets_text_at_its_path_and_leaves_the_raw_config_unchanged():
    raw = {"batch": 8, "networks": {"student": {"model": "mlp"}}}
    flags = ["--config.networks.student.widths=(3,)", "--config.data.name=digits", "--config.data.path=a=b"]
    changed = overrides.apply(raw, flags)
    assert changed["networks"]["student"] == {"model": "mlp", "widths": "(3,)"}
    assert changed["data"] == {"name": "digits", "path": "a=b"}
    assert isinstance(changed["data"]["name"], FlagText)
    assert raw == {"batch": 8, "networks": {"student": {"model": "mlp"}}}


def test_a_flag_replaces_the_duration_in_other_units():
    raw = {"epochs": 3, "evaluate": {"every_epochs": 2, "split": "test"}}
    changed = overrides.apply(raw, ["--config.evaluate.every=4", "--config.steps=9"])
    assert changed == {"steps": "9", "evaluate": {"split": "test", "every": "4"}}


def test_a_stage_keeps_what_it_inherits_beside_a_flag():
    raw = {"terms": {"kd": {"method": "kd"}, "task": {}}, "sharding": ["fsdp"], "stages": {"a": {}}}
    assert overrides.apply(raw, ["--config.stages.a.terms.kd.weight=2"])["stages"]["a"] == {
        "terms": {"kd": {"weight": "2"}, "task": {}}
    }


def test_a_flag_that_stages_shadow_is_noted_with_the_flag_that_reaches_them(capsys):
    raw = dict(
        steps=10,
        stages=dict(
            teacher=dict(epochs=3, optimizer=dict(clip=1.0)), distil=dict(steps=5), evaluate=dict(kind="evaluate")
        ),
    )
    flags = "--config.steps=20", "--config.optimizer.clip=2", "--config.optimizer.name=sgd", "--config.batch=9"
    assert overrides.find_shadowed(raw, flags) == [
        "--config.steps=20 does not reach stages ['teacher', 'distil'], which have epochs and steps of their own;"
        " --config.stages.teacher.steps=20 does",
        "--config.optimizer.clip=2 does not reach stages ['teacher'], which have optimizer.clip of their own;"
        " --config.stages.teacher.optimizer.clip=2 does",
    ]
    own = "--config.stages.teacher.steps=4", "--config.stages.distil.epochs=1"
    assert overrides.find_shadowed(raw, (flags[0], *own)) == []
    assert overrides.find_shadowed(dict(steps=3), flags) == []
