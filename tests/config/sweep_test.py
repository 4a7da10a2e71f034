"""Sweeps: the values of each lane, and refusals."""

import pytest

from jaxdistill.config.parse import FlagText
from jaxdistill.config.sweep import SweepConfig
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
