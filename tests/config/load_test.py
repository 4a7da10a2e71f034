"""Configs: inheritance, durations, overrides."""

import json

import pytest

import runs
from jaxdistill import launch
from jaxdistill.config import durations
from jaxdistill.config import load as configs
from jaxdistill.errors import UserError
from jaxdistill.networks.model import PreprocessSettings


def parsed(*flags):
    return launch.parse(["launch", "--config", runs.TINY, *flags])[0]


def test_a_stage_inherits_the_top_level():
    stages = parsed()
    assert list(stages) == ["teacher", "distil", "evaluate"]
    teacher, distil = stages["teacher"], stages["distil"]
    assert list(teacher.networks) == ["teacher"]  # the entries that it names, and no more
    assert (teacher.networks["teacher"].source, teacher.networks["teacher"].weights) == ("trained", "")
    assert teacher.networks["teacher"].options == distil.networks["teacher"].options
    assert list(teacher.terms) == ["task"]
    assert teacher.terms["task"].student == "teacher"
    assert (teacher.data.labels_per_class, distil.data.labels_per_class) == (0, 20)  # merged key by key
    assert teacher.data.augment == distil.data.augment == ("pad_crop:1", "rotate:5")
    assert list(distil.networks) == ["slow", "student", "teacher"]
    assert stages["evaluate"].networks["slow"].options["widths"] == (8,)  # like the student


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


def test_defaults_of_methods_and_models_can_be_set():
    stages = parsed("--config.terms.task.label_smoothing=0.1", "--config.networks.student.dtype=bfloat16")
    assert stages["distil"].terms["task"].fields["label_smoothing"] == 0.1
    assert stages["distil"].networks["student"].options["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("flag", "key", "value"),
    [
        ("networks.student.classes=12", "classes", 12),
        ("networks.student.input=image2", "input", "image2"),
        ("networks.student.preprocess.size=16", "preprocess", PreprocessSettings(size=16)),
    ],
)
def test_every_documented_key_of_a_network_has_a_flag(flag, key, value):
    assert parsed(f"--config.{flag}")["distil"].networks["student"].options[key] == value


def test_a_flag_is_read_by_the_type_of_its_key():
    flags = ("data.augment=flip,pad_crop:2", "evaluate.saliency=False", "data.mean=0.5", "optimizer.b1=1")
    distil = parsed(*(f"--config.stages.distil.{flag}" for flag in flags))["distil"]
    assert distil.data.augment == ("flip", "pad_crop:2")
    assert distil.evaluate.saliency is False
    assert distil.data.mean == (0.5,)
    assert distil.optimizer.arguments["b1"] == 1.0


def test_values_after_a_space():
    assert parsed("--config.batch", "32")["distil"].batch == 32


def planned(*flags, config=runs.TINY):
    stages, _ = launch.parse(["launch", "--config", config, *flags])
    return {name: durations.in_steps(settings, 10.0, 100) for name, settings in stages.items()}


def test_a_duration_given_by_flag_replaces_the_others():
    """MNIST's config counts in epochs, the tiny one in steps; ten steps are an epoch here."""
    mnist = "configs/mnist/kd.py"
    assert planned("--config.steps=7", config=mnist)["distil"].steps == 7
    assert planned("--config.stages.teacher.steps=7", config=mnist)["teacher"].steps == 7
    assert planned("--config.evaluate.every=3", config=mnist)["alone"].evaluate.every == 3
    assert planned("--config.epochs=2.5")["distil"].steps == 25
    assert planned("--config.stages.distil.epochs=2")["distil"].steps == 20
    assert planned("--config.evaluate.every_epochs=2")["teacher"].evaluate.every == 20


def test_a_duration_given_twice_is_refused():
    with pytest.raises(UserError, match=r"steps must be set in one unit, got it in \['epochs', 'steps'\]"):
        configs.stages({"steps": 3, "epochs": 2})


def test_an_entry_that_repeats_its_method_still_inherits(tmp_path):
    body = (
        "    c.terms = dict(task=dict(method='cross_entropy'), kd=dict(method='kd', temperature=20.0, weight=0.9))\n"
        "    c.networks = dict(student=dict(model='mlp', widths=(3,)))\n"
        "    c.stages = dict(a=dict(terms=dict(kd=dict(method='kd'), task=dict(method='kd'))),\n"
        "                    b=dict(networks=dict(student=dict(model='cifar_resnet', depth=8))))\n"
    )
    stages = planned(config=written(tmp_path, body))
    assert stages["a"].terms["kd"].fields["temperature"] == 20.0
    assert stages["a"].terms["kd"].weight.value == 0.9
    assert "label_smoothing" not in stages["a"].terms["task"].fields  # another method stands alone
    assert stages["a"].terms["task"].fields["temperature"] == 4.0
    assert "widths" not in stages["b"].networks["student"].options


def test_another_method_or_optimizer_by_flag_brings_its_own_fields():
    flags = ("--config.optimizer.name=sgd", "--config.optimizer.nesterov=True", "--config.terms.task.method=kd")
    distil = parsed(*flags)["distil"]
    assert distil.optimizer.arguments == {"nesterov": True}
    assert distil.terms["task"].fields["temperature"] == 4.0


def test_fields_of_the_file_fall_away_if_a_flag_names_another_method():
    """Those that the other method has too stay; a foreign field that a flag sets is refused."""
    kd = parsed("--config.terms.kd.method=at")["distil"].terms["kd"]
    assert "temperature" not in kd.fields
    assert kd.weight == parsed()["distil"].terms["kd"].weight
    assert parsed("--config.terms.kd.method=dkd")["distil"].terms["kd"].fields["temperature"] == 2.0
    with pytest.raises(UserError, match="terms.kd.temperature must be a key of method 'at', got 'temperature'"):
        parsed("--config.terms.kd.method=at", "--config.terms.kd.temperature=2")
    with pytest.raises(UserError, match="terms.kd.temperature must be a key of method 'at'"):
        configs.stages({"terms": {"kd": {"method": "at", "temperature": 2.0}}})


def test_a_schedule_takes_a_number_or_keys():
    number, section = (
        parsed(f"--config.terms.kd.weight{flag}")["distil"].terms["kd"].weight for flag in ("=0.5", ".over_epochs=2")
    )
    assert number.value == 0.5
    assert (section.to, section.over) == (1.0, durations.Duration(2.0, "epochs"))
    named = parsed("--config.learning_rate.name=linear", "--config.learning_rate.end_value=0.0")["distil"]
    assert named.learning_rate.arguments == {"init_value": 0.01, "end_value": 0.0}
    field = parsed("--config.terms.kd.temperature.to=1", "--config.terms.kd.temperature.over=5")["distil"]
    assert (field.terms["kd"].fields["temperature"].to, field.terms["kd"].fields["temperature"].over) == (1.0, 5)


def test_every_mistake_is_told_at_once_at_the_place_where_it_is_written():
    raw = configs.read(runs.TINY)
    raw["bacth"], raw["terms"]["kd"]["tempreature"], raw["stages"]["distil"]["stpes"] = 3, 2.0, 1
    with pytest.raises(UserError) as caught:
        configs.stages(raw)
    keys = [line.partition(" must be")[0] for line in str(caught.value).splitlines()]
    assert keys == ["bacth", "terms.kd.tempreature", "stages.distil.stpes"]


def test_a_stage_ignores_inherited_keys_that_its_kind_lacks_and_refuses_its_own():
    raw = configs.read(runs.TINY)
    raw["accumulate"], raw["merge"] = 2, {"rule": "ties"}
    stages = configs.stages(raw)
    assert stages["distil"].accumulate == 2
    assert not hasattr(stages["evaluate"], "accumulate")
    assert not hasattr(stages["distil"], "merge")
    raw["stages"]["evaluate"]["accumulate"] = 4
    with pytest.raises(UserError, match="stages.evaluate.accumulate must be a key of a stage of kind 'evaluate', got"):
        configs.stages(raw)
    raw["merge"]["rul"] = "ties"
    with pytest.raises(UserError, match="merge.rul must be a key of this section, got 'rul'. Did you mean 'rule'"):
        configs.stages(raw)


def test_what_is_written_to_json_is_read_back():
    for config in (
        runs.TINY,
        "configs/cifar100/kd.py",
        "configs/digits/modes.py:all",
        "configs/tiny_shakespeare/kd.py",
    ):
        written = configs.to_json(configs.load(config))
        again = json.loads(json.dumps(written))
        assert configs.to_json(configs.stages(again)) == written
        assert configs.differences(again, written) == []


def test_unknown_mode():
    with pytest.raises(
        UserError, match="mode of configs/digits/kd.py must be an existing name, got 'smok'. Did you mean 'smoke'"
    ):
        configs.read("configs/digits/kd.py:smok")


BAD_FLAGS = [
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
    (("--config", "configs/digits/kd.py"), "--config is given twice"),
    (("--noplan=3",), "noplan"),
    (("extra",), "every argument must be a flag such as --config.batch=64, got 'extra'"),
    (("--confg.batch=2",), "confg"),
    (("--wokdir=x",), "wokdir"),
]


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS, ids=lambda x: str(x)[:40])
def test_bad_flags(flags, message):
    with pytest.raises(UserError) as caught:
        parsed(*flags)
    assert message in str(caught.value)


def resolved(steps_per_epoch=4.5, batch=10, **raw):
    return configs.plain(durations.in_steps(configs.stages(raw)["train"], steps_per_epoch, batch))


def test_durations():
    """45 examples in batches of 10: 4.5 steps are an epoch."""
    weight = {"name": "warmup_cosine_decay", "init_value": 0.0, "peak_value": 1.0}
    made = resolved(
        steps=0,
        epochs=20,
        learning_rate={"start": 0.1, "times": 0.1, "at_epochs": (10, 16)},
        terms={"kd": {"method": "kd", "weight": weight | {"warmup_epochs": 2, "decay_examples": 100}}},
        evaluate={"every": 0, "every_epochs": 4},
        checkpoint={"every": 7, "every_epochs": 0},
    )
    assert made["steps"] == 90
    assert made["learning_rate"] == {"start": 0.1, "times": 0.1, "at": [45, 72]}
    assert made["terms"]["kd"]["weight"] == weight | {"warmup_steps": 9, "decay_steps": 10}
    assert made["evaluate"]["every"] == 18
    assert made["checkpoint"]["every"] == 7


def test_a_duration_may_be_a_fraction_of_the_run():
    terms = {"kd": {"method": "kd", "weight": {"value": 1.0, "until_fraction": 0.6}}}
    made = resolved(epochs=20, terms=terms, checkpoint={"every_fraction": 0.25})
    assert made["terms"]["kd"]["weight"] == {"value": 1.0, "until": 54}
    assert made["checkpoint"]["every"] == 22
    with pytest.raises(UserError, match=r"checkpoint.every_fraction must be in \[0, 1\], got 3"):
        resolved(steps=9, checkpoint={"every_fraction": 3})


def test_a_duration_of_nothing_is_one_and_a_networks_own_keys_are_its_own():
    own = {"source": "function", "factory": "mine:teacher", "settings": {"examples": 100, "drop_fraction": 0.1}}
    terms = {"kd": {"method": "kd", "weight": {"value": 1.0, "until_fraction": 0.0}}}
    made = resolved(steps=50, networks={"teacher": own}, terms=terms)
    assert made["networks"]["teacher"].items() >= own.items()
    assert made["terms"]["kd"]["weight"] == {"value": 1.0, "until": 0}


def test_a_stage_with_a_length_of_its_own_forgets_the_inherited_one():
    stages = configs.stages({"steps": 0, "epochs": 30, "stages": {"a": {"steps": 5}, "b": {}}})
    assert stages["a"].steps == 5
    assert stages["b"].steps == durations.Duration(30.0, "epochs")


def test_stages_run_after_those_whose_weights_they_read():
    def stage(weights=""):
        return {"networks": {"net": {"model": "mlp", "weights": weights}}}

    config = {"stages": {"a": stage("stage:c"), "b": stage(), "c": stage("stage:b#net")}}
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
    ("    c.bacth = 3", "bacth must be a key of a stage, got 'bacth'. Did you mean 'batch'"),
    (
        "    c.data = dict(nme='digits')",
        "data.nme must be a key of this section, got 'nme'. Did you mean 'name'",
    ),
    (
        "    c.data = dict(splits=dict(trian='x'))",
        "data.splits.trian must be a key of this section, got 'trian'. Did you mean 'train'",
    ),
    ("    c.data = 'digits'", "data must be a section with keys of ['augment', "),
    (
        "    c.stages = dict(a=dict(stpes=3))",
        "stages.a.stpes must be a key of a stage of kind 'train', got 'stpes'. Did you mean 'steps'",
    ),
    ("    c = 3", "must return an ml_collections ConfigDict, got 3"),
    ("    raise ValueError('oh')", "cannot be read as a config: ValueError: oh"),
]


@pytest.mark.parametrize(("body", "message"), BAD_FILES)
def test_bad_files(tmp_path, body, message):
    with pytest.raises(UserError) as caught:
        configs.load(written(tmp_path, body))
    assert message in str(caught.value)


def test_missing_file():
    with pytest.raises(
        UserError,
        match="config file must be an existing file, got 'configs/digit/kd.py'. Did you mean 'configs/digits/kd.py'",
    ):
        configs.read("configs/digit/kd.py")


def test_configs_of_the_package_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "alone" in configs.load("configs/digits/kd.py")


def test_differences():
    old = {"stages": {"a": {"seed": 1, "sharding": []}, "b": {"seed": 1}}}
    new = {"stages": {"a": {"seed": 2, "batch": 8}, "b": {"seed": 2}, "c": {}}}
    lines = configs.differences(old, new)
    assert lines[:2] == ["stages.a.batch: 128 -> 8", "seed: 1 -> 2"]
    assert lines[2].startswith("stages.c: '(absent)' -> {'kind': 'train', ")
    strange = {"stages": {"a": {"sede": 1}}}
    assert (
        "of another version of jaxdistill: stages.a.sede must be a key of a stage"
        in configs.differences(strange, new)[0]
    )


def test_a_run_is_the_same_wherever_and_however_fast_it_goes():
    """Keys of place and speed may change; a key that the older config does not have counts as its default."""
    old = {"batch": 8, "networks": {"teacher": {"model": "mlp"}}, "stages": {"a": {"data": {"num_threads": 2}}}}
    new = {
        "batch": 8,
        "accumulate": 1,
        "mesh": {"data": 4, "fsdp": 2, "tensor": 1},
        "steps_per_call": 16,
        "checkpoint": {"max_to_keep": 9},
        "networks": {"teacher": {"model": "mlp", "sharding": ["fsdp"], "fold": True, "quantize": "", "offload": True}},
        "stages": {"a": {"data": {"num_threads": 8, "prefetch": 3}, "sharding": ["fsdp"]}},
    }
    assert configs.differences(old, new) == configs.differences(new, old) == []
    changed = {
        "accumulate": 2,
        "networks": {"teacher": {"model": "mlp", "fold": False}},
        "stages": {"a": {"batch": 128}},
    }
    assert configs.differences(old, old | changed) == [
        "stages.a.accumulate: 1 -> 2",
        "stages.a.batch: 8 -> 128",
        "stages.a.networks.teacher.fold: True -> False",
    ]
