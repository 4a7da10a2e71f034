"""Sections with the keys of a member: terms, networks, optimizers and schedules."""

import dataclasses

import pytest

from jaxdistill.config import durations
from jaxdistill.config import load as configs
from jaxdistill.config.members import NetworkConfig, OptimizerConfig, ScheduleConfig, TermConfig, parse_options
from jaxdistill.config.parse import option
from jaxdistill.errors import UserError
from jaxdistill.networks import Source
from jaxdistill.networks.model import PreprocessSettings
from jaxdistill.networks.options import NetworkRef, required
from runs import parsed


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


def test_keys_of_the_file_fall_away_if_a_flag_names_another_kind():
    assert parsed("--config.stages.distil.kind=cache")["distil"].kind == "cache"
    with pytest.raises(UserError, match="stages.distil.steps must be a key of a stage of kind 'cache', got 'steps'"):
        parsed("--config.stages.distil.kind=cache", "--config.stages.distil.steps=3")


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


def test_a_term_has_the_fields_of_its_method_and_a_teacher_if_the_method_needs_one():
    kd = TermConfig.parse({"method": "kd", "temperature": 3}, "terms.kd")
    assert (kd.student, kd.teacher, kd.weight, kd.fields["temperature"]) == (
        "student",
        "teacher",
        ScheduleConfig(1.0),
        3.0,
    )
    assert TermConfig.parse({"method": "cross_entropy"}, "terms.task").teacher == ""


def test_a_network_has_the_options_of_its_source_and_the_fields_of_its_model():
    options = NetworkConfig.parse({"model": "mlp", "widths": (3,)}, "networks.a").options
    assert (options["widths"], options["dtype"], options["input"]) == ((3,), "float32", "")
    head = NetworkConfig.parse({"source": "head", "of": "a", "tap": "pooled", "head": "pca"}, "networks.b")
    assert head.options.keys() >= {"of", "tap", "components"}


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        (TermConfig, {}, "x.method must be set. There are"),
        (TermConfig, {"method": "dkdd"}, "x.method must be a method, got 'dkdd'. Did you mean 'dkd'"),
        (TermConfig, {"method": "kd", "temperature": "hot"}, "x.temperature must be a number, got 'hot'"),
        (NetworkConfig, {"source": "head", "of": "a"}, "x.tap must be set"),
        (NetworkConfig, {"model": "mlp", "with": 3}, "x.with must be a key of model 'mlp', got 'with'. Did you mean"),
        (OptimizerConfig, {"name": "sgd", "learning_rate": 1}, "x.learning_rate must be absent, got 1"),
        (OptimizerConfig, {"name": "sgd", "b1": 1.0}, "x.b1 must be a key of optimizer 'sgd', got 'b1'"),
        (ScheduleConfig, {"start": 1.0}, "x must be a number, a section of"),
        (ScheduleConfig, {"name": "cosine_decay", "steps": 3}, "x.steps must be a key of schedule 'cosine_decay'"),
    ],
)
def test_mistakes(kind, raw, message):
    with pytest.raises(UserError, match=message):
        kind.parse(raw, "x")


@pytest.mark.parametrize(
    "raw", [0.5, {"to": 1.0, "over": 10}, {"start": 0.1, "times": 0.1, "at_epochs": [3, 4]}, {"value": 1.0, "until": 9}]
)
def test_a_schedule_is_written_as_it_was_read(raw):
    assert ScheduleConfig.parse(raw, "x").plain() == raw


@dataclasses.dataclass(frozen=True)
class Mixed(Source):
    of: NetworkRef = required("the network")
    members: tuple[NetworkRef, ...] = option(("a",), "further networks")
    factor: float = option(0.5, "factor", least=0, below=2)


def test_options_of_a_source_are_parsed_by_type_and_complete():
    parsed = parse_options(Mixed, {"of": "b", "factor": 1}, "x", "source Mixed")
    assert parsed == {"of": "b", "members": ("a",), "factor": 1.0}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"of": "a", "fator": 1}, r"x.fator must be a key of source Mixed, got 'fator'. Did you mean 'factor'"),
        ({}, r"x.of must be set: the network. The keys are \['of', 'members', 'factor'\]"),
        ({"of": 3}, "x.of must be the name of a network, got 3"),
        ({"of": ("a",)}, r"x.of must be the name of a network, got \('a',\)"),
        ({"of": "a", "factor": 2.0}, "x.factor must be less than 2, got 2.0"),
        ({"of": "a", "factor": -1.0}, "x.factor must be at least 0 and finite, got -1.0"),
        ({"of": "a", "factor": "b"}, "x.factor must be a number, got 'b'"),
        ({"of": "a", "members": "b"}, "x.members must be a tuple of .*, got 'b'"),
        ({"of": "a", "members": (1,)}, r"x.members\[0\] must be the name of a network, got 1"),
    ],
)
def test_mistakes_in_the_options_of_a_source(raw, message):
    with pytest.raises(UserError, match=message):
        parse_options(Mixed, raw, "x", "source Mixed")
