"""Durations: units of keys, and their conversion to steps."""

import pytest

import runs
from jaxdistill import launch
from jaxdistill.config import durations
from jaxdistill.config import load as configs
from jaxdistill.errors import UserError


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


def resolved(steps_per_epoch=4.5, batch=10, **raw):
    return configs.plain(durations.in_steps(configs.stages(raw)["train"], steps_per_epoch, batch))


def test_durations():
    """45 examples in batches of 10: 4.5 steps are an epoch."""
    weight = {"name": "warmup_cosine_decay", "init_value": 0.0, "peak_value": 1.0}
    settings = resolved(
        steps=0,
        epochs=20,
        learning_rate={"start": 0.1, "times": 0.1, "at_epochs": (10, 16)},
        terms={"kd": {"method": "kd", "weight": weight | {"warmup_epochs": 2, "decay_examples": 100}}},
        evaluate={"every": 0, "every_epochs": 4},
        checkpoint={"every": 7, "every_epochs": 0},
    )
    assert settings["steps"] == 90
    assert settings["learning_rate"] == {"start": 0.1, "times": 0.1, "at": [45, 72]}
    assert settings["terms"]["kd"]["weight"] == weight | {"warmup_steps": 9, "decay_steps": 10}
    assert settings["evaluate"]["every"] == 18
    assert settings["checkpoint"]["every"] == 7


def test_a_duration_may_be_a_fraction_of_the_run():
    terms = {"kd": {"method": "kd", "weight": {"value": 1.0, "until_fraction": 0.6}}}
    settings = resolved(epochs=20, terms=terms, checkpoint={"every_fraction": 0.25})
    assert settings["terms"]["kd"]["weight"] == {"value": 1.0, "until": 54}
    assert settings["checkpoint"]["every"] == 22
    with pytest.raises(UserError, match=r"checkpoint.every_fraction must be in \[0, 1\], got 3"):
        resolved(steps=9, checkpoint={"every_fraction": 3})


def test_a_duration_of_nothing_is_one_and_a_networks_own_keys_are_its_own():
    own = {"source": "function", "factory": "mine:teacher", "settings": {"examples": 100, "drop_fraction": 0.1}}
    terms = {"kd": {"method": "kd", "weight": {"value": 1.0, "until_fraction": 0.0}}}
    settings = resolved(steps=50, networks={"teacher": own}, terms=terms)
    assert settings["networks"]["teacher"].items() >= own.items()
    assert settings["terms"]["kd"]["weight"] == {"value": 1.0, "until": 0}


def test_a_stage_with_a_length_of_its_own_forgets_the_inherited_one():
    stages = configs.stages({"steps": 0, "epochs": 30, "stages": {"a": {"steps": 5}, "b": {}}})
    assert stages["a"].steps == 5
    assert stages["b"].steps == durations.Duration(30.0, "epochs")
