"""Typed values from raw values, and back."""

import dataclasses
from typing import Any

import pytest

from jaxdistill.config.durations import Duration, Steps
from jaxdistill.config.parse import FlagText, one_duration, option, parse, plain
from jaxdistill.errors import UserError
from runs import parsed


def test_a_flag_is_read_by_the_type_of_its_key():
    flags = ("data.augment=flip,pad_crop:2", "evaluate.saliency=False", "data.mean=0.5", "optimizer.eps=1")
    distil = parsed(*(f"--config.stages.distil.{flag}" for flag in flags))["distil"]
    assert distil.data.augment == ("flip", "pad_crop:2")
    assert distil.evaluate.saliency is False
    assert distil.data.mean == (0.5,)
    assert distil.optimizer.arguments["eps"] == 1.0
    assert isinstance(distil.optimizer.arguments["eps"], float)


@dataclasses.dataclass(frozen=True)
class Section:
    width: int = option(4, "width", least=1, below=9)
    rate: float | None = option(None, "rate")
    names: tuple[str, ...] = option(("a",), "names", choices=())
    every: Steps = option(0, "interval", least=0)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "3", 3),
        (float, "3", 3.0),
        (float, "1e-3", 0.001),
        (bool, "no", False),
        (bool, "True", True),
        (str, "3", "3"),
        (tuple[int, ...], "1, 2", (1, 2)),
        (tuple[int, ...], "7", (7,)),
        (tuple[str, ...], "a,b", ("a", "b")),
        (tuple[float, ...], "()", ()),
        (float | None, "2", 2.0),
        (int | str, "cat", "cat"),
        (dict[str, int], "{'a': 1}", {"a": 1}),
        (Any, "(1, 'b')", (1, "b")),
        (Any, "word", "word"),
    ],
)
def test_text_of_a_flag_is_read_by_type(kind, text, value):
    parsed_value = parse(kind, FlagText(text), "key")
    assert parsed_value == value
    assert type(parsed_value) is type(value)


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        (int, 2.5, "key must be a whole number, got 2.5"),
        (int, True, "key must be a whole number, got True"),
        (float, "2", "key must be a number, got '2'"),
        (bool, 1, "key must be True or False, got 1"),
        (tuple[int, ...], 3, "key must be a tuple of whole numbers, got 3"),
        (tuple[int, ...], (1, "a"), r"key\[1\] must be a whole number, got 'a'"),
        (tuple[int | str, ...], (0.0, 1), r"key\[0\] must be a whole number or a text, got 0.0"),
        (float | None, "x", "key must be a number, got 'x'"),
        (dict[str, int], {"a": "b"}, "key.a must be a whole number, got 'b'"),
        (Steps, 2.5, r"key must be a whole number of steps, or have a unit \(_epochs, _examples, _fraction\), got 2.5"),
        (Section, {"width": 0}, "key.width must be at least 1 and finite, got 0"),
        (Section, {"width": 9}, "key.width must be less than 9, got 9"),
        (Section, {"widht": 3}, "key.widht must be a key of this section, got 'widht'. Did you mean 'width'"),
        (
            Section,
            {"every": 3, "every_epochs": 2},
            r"key.every must be set in one unit, got it in \['epochs', 'steps'\]",
        ),
        (Section, 3, r"key must be a section with keys of \['every', 'names', 'rate', 'width'\], got 3"),
    ],
)
def test_values_of_another_type_are_refused(kind, raw, message):
    with pytest.raises(UserError, match=message):
        parse(kind, raw, "key")


def test_all_mistakes_of_a_section_are_reported_together():
    with pytest.raises(UserError) as caught:
        parse(Section, {"width": "a", "rate": "b", "depth": 1}, "key")
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == ["key.width", "key.rate", "key.depth"]


def test_plain_and_parse_are_inverse():
    section = parse(Section, {"names": ["b"], "every_fraction": 0.5, "rate": 1}, "key")
    assert section == Section(rate=1.0, names=("b",), every=Duration(0.5, "fraction"))
    assert plain(section) == {"width": 4, "rate": 1.0, "names": ["b"], "every_fraction": 0.5}
    assert parse(Section, plain(section), "key") == section


def test_zero_in_one_unit_leaves_the_duration_in_the_other():
    assert one_duration("", "every", 0, Duration(2.0, "epochs")) == Duration(2.0, "epochs")
    assert one_duration("", "every", 7, Duration(0.0, "epochs")) == 7
