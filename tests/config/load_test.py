"""Configs: inheritance, durations, overrides."""

import pytest
from ml_collections import ConfigDict

import runs
from jaxdistill import launch
from jaxdistill.config import durations
from jaxdistill.config import load as configs
from jaxdistill.errors import UserError


def parsed(*flags):
    config, _ = launch.parse(["launch", "--config", runs.TINY, *flags])
    return config.to_dict()


def test_a_stage_inherits_the_top_level():
    stages = configs.stages(parsed())
    assert list(stages) == ["teacher", "distil", "evaluate"]
    teacher, distil = stages["teacher"], stages["distil"]
    assert list(teacher["networks"]) == ["teacher"]  # its cast, and no more
    assert teacher["networks"]["teacher"] == parsed()["networks"]["teacher"] | {"source": "trained", "weights": ""}
    assert list(teacher["terms"]) == ["task"]
    assert teacher["terms"]["task"]["student"] == "teacher"
    assert (teacher["data"]["labels"], distil["data"]["labels"]) == (0, 20)  # merged key by key
    assert teacher["data"]["augment"] == distil["data"]["augment"]
    assert distil["networks"] == parsed()["networks"]
    assert stages["evaluate"]["networks"]["slow"]["widths"] == (8,)  # like the student


def test_overrides_reach_the_stages_that_inherit():
    stages = configs.stages(parsed("--config.terms.kd.temperature=5", "--config.networks.student.widths=(3,)"))
    assert stages["distil"]["terms"]["kd"]["temperature"] == 5.0
    assert stages["evaluate"]["networks"]["slow"]["widths"] == (3,)


def test_overrides_of_one_stage_leave_the_others():
    flags = (
        "--config.stages.distil.terms.kd.temperature=5",
        "--config.stages.distil.optimizer.clip=2",
        "--config.stages.distil.evaluate.every=3",
        "--config.stages.distil.batch=32",
        "--config.stages.distil.rate=0.5",
    )
    plain, stages = configs.stages(parsed()), configs.stages(parsed(*flags))
    assert stages["teacher"] == plain["teacher"]
    distil = stages["distil"]
    assert list(distil["terms"]) == ["kd", "task"]
    assert distil["terms"]["kd"] == plain["distil"]["terms"]["kd"] | {"temperature": 5.0}
    assert distil["optimizer"] == plain["distil"]["optimizer"] | {"clip": 2.0}
    assert distil["evaluate"] == plain["distil"]["evaluate"] | {"every": 3}
    assert (distil["batch"], distil["rate"]) == (32, 0.5)


def test_defaults_of_methods_and_models_can_be_set():
    config = parsed("--config.terms.task.label_smoothing=0.1", "--config.networks.student.dtype=bfloat16")
    assert config["terms"]["task"]["label_smoothing"] == 0.1
    assert config["networks"]["student"]["dtype"] == "bfloat16"


def test_values_after_a_space():
    assert parsed("--config.batch", "32")["batch"] == 32


def planned(*flags, config=runs.TINY):
    made, _ = launch.parse(["launch", "--config", config, *flags])
    return {n: durations.settings_in_steps(s, 10.0, 100) for n, s in configs.stages(made.to_dict()).items()}


def test_a_duration_given_by_flag_replaces_the_others():
    """MNIST's config counts in epochs, the tiny one in steps; ten steps are an epoch here."""
    mnist = "configs/mnist/kd.py"
    assert planned("--config.steps=7", config=mnist)["distil"]["steps"] == 7
    assert planned("--config.stages.teacher.steps=7", config=mnist)["teacher"]["steps"] == 7
    assert planned("--config.evaluate.every=3", config=mnist)["alone"]["evaluate"]["every"] == 3
    assert planned("--config.epochs=2.5")["distil"]["steps"] == 25
    assert planned("--config.stages.distil.epochs=2")["distil"]["steps"] == 20
    assert planned("--config.evaluate.every_epochs=2")["teacher"]["evaluate"]["every"] == 20


def test_a_duration_given_twice_is_refused():
    with pytest.raises(UserError, match="steps and epochs say the same thing"):
        durations.settings_in_steps({"steps": 3, "epochs": 2}, 10, 100)


def test_an_entry_that_repeats_its_method_still_inherits(tmp_path):
    body = (
        "    c.terms = dict(task=dict(method='cross_entropy'), kd=dict(method='kd', temperature=20.0, weight=0.9))\n"
        "    c.networks = dict(student=dict(model='mlp', widths=(3,)))\n"
        "    c.stages = dict(a=dict(terms=dict(kd=dict(method='kd'), task=dict(method='kd'))),\n"
        "                    b=dict(networks=dict(student=dict(model='cifar_resnet'))))\n"
    )
    stages = planned(config=written(tmp_path, body))
    assert stages["a"]["terms"]["kd"]["temperature"] == 20.0
    assert stages["a"]["terms"]["kd"]["weight"] == 0.9
    assert "label_smoothing" not in stages["a"]["terms"]["task"]  # another method stands alone
    assert stages["a"]["terms"]["task"]["temperature"] == 4.0
    assert "widths" not in stages["b"]["networks"]["student"]


def test_another_method_or_optimizer_by_flag_brings_its_own_fields():
    config = parsed("--config.optimizer.name=sgd", "--config.optimizer.nesterov=True", "--config.terms.task.method=kd")
    assert config["optimizer"]["nesterov"] is True
    assert "b1" not in config["optimizer"]
    assert config["terms"]["task"]["temperature"] == 4.0


def test_unknown_mode():
    with pytest.raises(
        UserError, match="mode of configs/digits/kd.py must be an existing name, got 'smok'. Did you mean 'smoke'"
    ):
        configs.read("configs/digits/kd.py:smok")


BAD_FLAGS = [
    (
        ("--config.terms.kd.temprature=2",),
        "config key must be an existing name, got 'terms.kd.temprature'. Did you mean 'terms.kd.temperature'",
    ),
    (("--config.setps=2",), "config key must be an existing name, got 'setps'. Did you mean 'steps'"),
    (("--config.stages.distill.steps=2",), "Did you mean 'stages.distil'"),
    (
        ("--config.stages.teacher.terms.kd.temperature=2",),
        "config key must be an existing name, got 'stages.teacher.terms.kd'",
    ),
    (("--config.batch=many",), "many"),
    (("--config.batch=2.5",), "2.5"),
    (("--config.terms=3",), "is a section"),
    (("--config.batch",), "has no value"),
    (("--config", "configs/digits/kd.py"), "--config is given twice"),
    (("--noplan=3",), "noplan"),
    (("extra",), "what is 'extra'"),
    (("--confg.batch=2",), "confg"),
    (("--wokdir=x",), "wokdir"),
]


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS, ids=lambda x: str(x)[:40])
def test_bad_flags(flags, message):
    with pytest.raises(UserError) as caught:
        parsed(*flags)
    assert message in str(caught.value)


def test_durations():
    """45 examples in batches of 10: 4.5 steps are an epoch."""
    settings = {
        "steps": 0,
        "epochs": 20,
        "rate": {"start": 0.1, "times": 0.1, "at_epochs": (10, 16)},
        "weight": {"name": "warmup", "warmup_epochs": 2, "decay_examples": 100},
        "evaluate": {"every": 0, "every_epochs": 4},
        "checkpoint": {"every": 7, "every_epochs": 0},
    }
    assert durations.settings_in_steps(settings, 4.5, 10) == {
        "steps": 90,
        "rate": {"start": 0.1, "times": 0.1, "at": (45, 72)},
        "weight": {"name": "warmup", "warmup_steps": 9, "decay_steps": 10},
        "evaluate": {"every": 18},
        "checkpoint": {"every": 7},
    }


def test_a_duration_may_be_a_share_of_the_run():
    settings = {"epochs": 20, "terms": {"kd": {"method": "kd", "weight": {"value": 1.0, "until_share": 0.6}}}}
    made = durations.settings_in_steps(settings | {"checkpoint": {"every_share": 0.25}}, 4.5, 10)
    assert made["terms"]["kd"]["weight"] == {"value": 1.0, "until": 54}
    assert made["checkpoint"]["every"] == 22
    with pytest.raises(UserError, match=r"every_share must be in \[0, 1\], got 3"):
        durations.settings_in_steps({"steps": 9, "checkpoint": {"every_share": 3}}, 4.5, 10)


def test_a_duration_of_nothing_is_one_and_a_networks_own_keys_are_its_own():
    own = {"make": "mine:teacher", "settings": {"examples": 100, "drop_share": 0.1}}
    weight = {"value": 1.0, "until_share": 0.0}
    settings = {"steps": 50, "networks": {"teacher": own}, "terms": {"kd": {"method": "kd", "weight": weight}}}
    made = durations.settings_in_steps(settings, 4.5, 10)
    assert made["networks"] == {"teacher": own}
    assert made["terms"]["kd"]["weight"] == {"value": 1.0, "until": 0}


def test_a_stage_with_a_length_of_its_own_forgets_the_inherited_one():
    shared = {"steps": 0, "epochs": 30, "networks": {}, "terms": {}}
    stages = configs.stages(shared | {"stages": {"a": {"steps": 5}, "b": {}}})
    assert "epochs" not in stages["a"]
    assert (stages["a"]["steps"], stages["b"]["epochs"]) == (5, 30)


def test_stages_run_after_those_whose_weights_they_read():
    def stage(weights=""):
        return {"networks": {"net": {"weights": weights}}}

    config = {"networks": {}, "terms": {}, "stages": {"a": stage("stage:c"), "b": stage(), "c": stage("stage:b#net")}}
    assert list(configs.stages(config)) == ["b", "c", "a"]
    config["stages"]["b"] = stage("stage:a")
    with pytest.raises(UserError, match="in a circle: a -> c -> b -> a"):
        configs.stages(config)
    config["stages"]["b"] = stage("stage:teachr")
    with pytest.raises(UserError, match=r"stage \(which 'b' needs\) must be an existing name, got 'teachr'"):
        configs.stages(config)


def written(folder, body):
    path = folder / "mine.py"
    head = "from ml_collections import ConfigDict\n\ndef get_config(mode=''):\n    c = ConfigDict()\n"
    path.write_text(f"{head}{body}\n    return c\n")
    return str(path)


BAD_FILES = [
    ("    c.bacth = 3", "config key must be an existing name, got 'bacth'. Did you mean 'batch'"),
    (
        "    c.data = dict(nme='digits')",
        "config key must be an existing name, got 'data.nme'. Did you mean 'data.name'",
    ),
    (
        "    c.data = dict(splits=dict(trian='x'))",
        "config key must be an existing name, got 'data.splits.trian'. Did you mean",
    ),
    ("    c.data = 'digits'", "'data' is 'digits'; it is a section"),
    (
        "    c.stages = dict(a=dict(stpes=3))",
        "config key of stage 'a' must be an existing name, got 'stpes'. Did you mean 'steps'",
    ),
    ("    c = 3", "returned int"),
    ("    raise ValueError('oh')", "cannot be read as a config: ValueError: oh"),
]


@pytest.mark.parametrize(("body", "message"), BAD_FILES)
def test_bad_files(tmp_path, body, message):
    with pytest.raises(UserError) as caught:
        configs.read(written(tmp_path, body))
    assert message in str(caught.value)


def test_missing_file():
    with pytest.raises(
        UserError,
        match="config file must be an existing name, got 'configs/digit/kd.py'. Did you mean 'configs/digits/kd.py'",
    ):
        configs.read("configs/digit/kd.py")


def test_configs_of_the_package_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(configs.read("configs/digits/kd.py"), ConfigDict)


def test_differences():
    old, new = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 1, "c": [2]}, "e": 3}
    expected = ["a.c: [1] -> [2]", "d: 2 -> '(absent)'", "e: '(absent)' -> 3"]
    assert configs.differences(old, new) == expected


def test_a_run_is_the_same_wherever_and_however_fast_it_goes():
    """Keys of place and speed may change; a key that the older config did not have yet counts as its default."""
    old = {"batch": 8, "networks": {"teacher": {"model": "mlp"}}, "stages": {"a": {"data": {"threads": 2}}}}
    new = {
        "batch": 8,
        "accumulate": 1,
        "mesh": {"data": 4, "fsdp": 2, "tensor": 1},
        "dispatch": 16,
        "checkpoint": {"latest": 9},
        "networks": {"teacher": {"model": "mlp", "sharding": ["fsdp"], "fold": True, "quantize": ""}},
        "stages": {"a": {"data": {"threads": 8, "ahead": 3}, "sharding": ["fsdp"]}},
    }
    assert configs.differences(old, new) == configs.differences(new, old) == []
    changed = {
        "accumulate": 2,
        "networks": {"teacher": {"model": "mlp", "fold": False}},
        "stages": {"a": {"batch": 128}},
    }
    assert configs.differences(old, old | changed) == [
        "accumulate: '(absent)' -> 2",
        "networks.teacher.fold: '(absent)' -> False",
        "stages.a.batch: '(absent)' -> 128",
    ]
