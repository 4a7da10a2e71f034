"""Configs: inheritance, durations, overrides."""

import json

import pytest

import runs
from jaxdistill.config import load as configs
from jaxdistill.errors import UserError
from runs import parsed


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


def test_values_after_a_space():
    assert parsed("--config.batch", "32")["distil"].batch == 32


def test_an_entry_that_repeats_its_method_still_inherits(tmp_path):
    body = (
        "    c.terms = dict(task=dict(method='cross_entropy'), kd=dict(method='kd', temperature=20.0, weight=0.9))\n"
        "    c.networks = dict(student=dict(model='mlp', widths=(3,)))\n"
        "    c.stages = dict(a=dict(terms=dict(kd=dict(method='kd'), task=dict(method='kd'))),\n"
        "                    b=dict(networks=dict(student=dict(model='cifar_resnet', depth=8))))\n"
    )
    stages = configs.load(written(tmp_path, body))
    assert stages["a"].terms["kd"].fields["temperature"] == 20.0
    assert stages["a"].terms["kd"].weight.value == 0.9
    assert "label_smoothing" not in stages["a"].terms["task"].fields  # another method stands alone
    assert stages["a"].terms["task"].fields["temperature"] == 4.0
    assert "widths" not in stages["b"].networks["student"].options


def test_all_mistakes_are_reported_together_with_their_paths():
    raw = configs.read(runs.TINY)
    raw["bacth"], raw["terms"]["kd"]["tempreature"], raw["stages"]["distil"]["stpes"] = 3, 2.0, 1
    with pytest.raises(UserError) as caught:
        configs.stages(raw)
    keys = [line.partition(" must be")[0] for line in str(caught.value).splitlines()]
    assert keys == ["bacth", "terms.kd.tempreature", "stages.distil.stpes"]


@pytest.mark.slow
def test_resolved_configs_survive_json():
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


def test_a_mode_may_have_an_argument(tmp_path):
    path = tmp_path / "mine.py"
    body = "MODES = ('', 'part')\ndef get_config(mode): return ConfigDict(dict(seed=int(mode.partition('@')[2] or 0)))"
    path.write_text(f"from ml_collections import ConfigDict\n{body}")
    assert configs.read(f"{path}:part@3") == {"seed": 3}
    with pytest.raises(UserError, match="'prat@3'"):
        configs.read(f"{path}:prat@3")


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
    ("    c.data = 'digits'", "data must be a section with keys of ['annotations', "),
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


def test_the_line_of_a_file_named_from_its_folder(tmp_path, monkeypatch):
    written(tmp_path, "    c.batch = nothing")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^mine.py, line 5 \(c.batch = nothing\) cannot be read as a config"):
        configs.read("mine.py")


def test_missing_file():
    with pytest.raises(
        UserError,
        match="config file must be an existing file, got 'configs/digit/kd.py'. Did you mean 'configs/digits/kd.py'",
    ):
        configs.read("configs/digit/kd.py")
    with pytest.raises(UserError, match="existing file, or the name of one of the package, got 'digit/kd'"):
        configs.read("digit/kd:smoke")


def test_configs_of_the_package_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "alone" in configs.load("configs/digits/kd.py")
    assert configs.load("digits/kd:smoke")["alone"].steps == 4
    assert configs.load("cifar10/kd").keys() == configs.load("configs/cifar10/kd.py").keys()  # stages of another file
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "kd.py").write_text("from ml_collections import ConfigDict\nget_config = ConfigDict")
    with pytest.raises(UserError, match="cannot be read as a config"):
        configs.read("digits/kd.py")  # a user's file of that path comes first


def test_differences():
    old = {"stages": {"a": {"seed": 1, "sharding": []}, "b": {"seed": 1}}}
    new = {"stages": {"a": {"seed": 2, "batch": 8}, "b": {"seed": 2}, "c": {}}}
    lines = configs.differences(old, new)
    assert lines == ["stages.a.batch: 128 -> 8", "seed: 1 -> 2", "stages.c: (absent) -> (a section)"]
    assert configs.differences(new, {"stages": {"c": {}}}) == [
        "stages.a: (a section) -> (absent)",
        "stages.b: (a section) -> (absent)",
    ]
    of_another_kind = configs.differences({"stages": {"a": {}}}, {"stages": {"a": {"kind": "evaluate"}}})
    assert "stages.a.kind: 'train' -> 'evaluate'" in of_another_kind
    assert all("{" not in line for line in of_another_kind)
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


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({}, []),
        (dict(stages=dict(train={})), ["networks.teacher.optimizer"]),
        (dict(stages=None), ["networks.teacher.optimizer"]),
        (
            dict(stages=dict(t=dict(networks=dict(big=dict(like="teacher", source="trained", weights=""))), train={})),
            [],
        ),
        (
            dict(stages=dict(train={}, b=dict(networks=dict(teacher=dict(learning_rate=0.5), student={})))),
            ["networks.teacher.optimizer", "stages.b.networks.teacher.learning_rate"],
        ),
    ],
)
def test_an_optimizer_of_a_network_that_no_stage_trains_is_refused(change, paths):
    raw = dict(
        networks=dict(
            teacher=dict(source="frozen", model="mlp", weights="folder", optimizer=dict(name="sgd")),
            student=dict(model="mlp", learning_rate=0.1),
        ),
        terms=dict(task=dict(method="cross_entropy")),
        stages=dict(
            train=dict(networks=dict(teacher=dict(source="trained", weights=""), student={})),
            evaluate=dict(kind="evaluate", networks=dict(small=dict(like="student", source="frozen", weights="a"))),
        ),
    )
    raw |= change
    if not paths:
        assert [*configs.stages_of_user(raw)] == [*raw["stages"]]
        return
    with pytest.raises(UserError) as caught:
        configs.stages_of_user(raw)
    lines = str(caught.value).splitlines()
    assert [line.partition(" must be absent from a network that no stage trains, got")[0] for line in lines] == paths
