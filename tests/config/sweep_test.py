"""Sweeps: the values of each lane, and refusals."""

import pytest

from jaxdistill.config import load as configs
from jaxdistill.config.parse import FlagText
from jaxdistill.config.schema import StageSettings
from jaxdistill.config.sweep import SweepConfig, count_lanes, lane_settings
from jaxdistill.errors import UserError


def test_lanes_pair_up_the_values():
    raw = {"seed": [0, 1], "terms": {"kd": {"temperature": FlagText("(1.0, 4.0)"), "weight": {"to": (0.5, 0.9)}}}}
    assert SweepConfig.parse(raw, "sweep").lanes() == [
        {"seed": 0, "terms.kd.temperature": 1.0, "terms.kd.weight.to": 0.5},
        {"seed": 1, "terms.kd.temperature": 4.0, "terms.kd.weight.to": 0.9},
    ]
    assert SweepConfig().lanes() == []


def test_a_grid_has_a_lane_for_each_combination_and_the_last_key_changes_first():
    raw = {"grid": FlagText("true"), "seed": (0, 1), "optimizer": {"b1": (0.8, 0.9, 0.95)}}
    lanes = SweepConfig.parse(raw, "sweep").lanes()
    assert lanes == [{"seed": seed, "optimizer.b1": b1} for seed in (0, 1) for b1 in (0.8, 0.9, 0.95)]


@pytest.mark.parametrize(
    "raw", [{}, {"seed": [0, 1]}, {"form": "unroll", "grid": True, "terms": {"kd": {"weight": {"to": [0.5]}}}}]
)
def test_plain_and_parse_are_inverse(raw):
    assert SweepConfig.parse(raw, "sweep").plain() == raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"data": {"partition": {"parts": (0, 1)}}}, "sweep.data.partition.parts must be a setting that lanes may"),
        ({"data": {"partition": {"parts": (0, 1)}}}, "Did you mean 'data.partition.part'"),
        ({"seed": (0, 0.5)}, r"sweep.seed must be a tuple of whole numbers, one for each lane, got \(0, 0.5\)"),
        ({"seed": 3}, "sweep.seed must be a tuple of whole numbers, one for each lane, got 3"),
        ({"terms": {"kd": {"temperature": ("a", "b")}}}, "sweep.terms.kd.temperature must be a tuple of numbers"),
        ({"optimizer": {"nesterov": (True, False)}}, "sweep.optimizer.nesterov must be a tuple of numbers"),
        ({"seed": (0, 1), "optimizer": {"b1": (0.9,)}}, "sweep must have tuples of one length"),
        ({"seed": ()}, "sweep must have tuples of one length"),
        ({"form": "loop", "seed": (0,)}, "sweep.form must be an existing name, got 'loop'"),
        ({"grid": 1, "seed": (0,)}, "sweep.grid must be True or False, got 1"),
        ("seed", "sweep must be a section such as"),
    ],
)
def test_refusals(raw, message):
    with pytest.raises(UserError, match=message):
        SweepConfig.parse(raw, "sweep")


def test_each_lane_has_its_values_and_no_sweep():
    section = {"grid": True, "seed": (0, 1), "terms": {"kd": {"temperature": (1.0, 2.0, 4.0)}}}
    raw = {"seed": 7, "terms": {"kd": {"method": "kd", "temperature": 3.0}}, "sweep": section}
    settings = configs.stages(raw)["train"]
    lanes = lane_settings("s", settings)
    assert [(lane.seed, lane.terms["kd"].fields["temperature"]) for lane in lanes] == [
        (seed, temperature) for seed in (0, 1) for temperature in (1.0, 2.0, 4.0)
    ]
    assert all(lane.sweep == SweepConfig() for lane in lanes)
    assert settings.seed == 7


def test_a_stage_that_does_not_train_has_no_sweep_and_an_evaluation_no_lanes_of_its_own():
    sweep = SweepConfig(values={"seed": (0, 1)})
    with pytest.raises(UserError, match="stages.s.sweep must be empty for a stage of kind 'merge', which does not"):
        lane_settings("s", StageSettings(kind="merge", sweep=sweep))
    assert lane_settings("s", StageSettings(kind="evaluate", sweep=sweep)) == []


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"terms": {"dk": {"temperature": (1.0, 2.0)}}}, "got no section 'terms.dk'"),
        ({"seed": (0, -1)}, "seed must be at least 0 and finite, got -1"),
        ({"optimizer": {"nesterov": (0, 1)}}, "stages.s.optimizer.nesterov must be True or False, got 0"),
    ],
)
def test_values_are_parsed_as_settings_of_the_stage(raw, message):
    settings = configs.stages({"sweep": raw})["train"]
    with pytest.raises(UserError, match=message):
        lane_settings("s", settings)


def test_networks_start_lane_by_lane_if_their_numbers_of_lanes_agree():
    assert count_lanes("s", StageSettings(), 3, {"teacher": 3, "student": 0, "helper": 2}) == (3, ["teacher"])
    evaluation = StageSettings(kind="evaluate")
    assert count_lanes("s", evaluation, 0, {"teacher": 0, "student": 2}) == (2, ["student"])
    assert count_lanes("s", evaluation, 0, {"teacher": 0}) == (0, [])
    with pytest.raises(UserError, match="stages.s.networks must have one number of lanes, got {'a': 2, 'b': 3}"):
        count_lanes("s", evaluation, 0, {"a": 2, "b": 3})
