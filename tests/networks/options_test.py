"""Config keys of a source, from the fields of its dataclass."""

import dataclasses

import pytest

from jaxdistill.config.parse import option
from jaxdistill.errors import UserError
from jaxdistill.networks import options
from jaxdistill.networks.options import NetworkRef, built, required


@dataclasses.dataclass(frozen=True)
class Mixed:
    base: object = built()
    of: NetworkRef = required("the network")
    members: tuple[NetworkRef, ...] = option(("a",), "further networks")
    factor: float = option(0.5, "factor", least=0, below=2)


def test_fields_with_a_meaning_are_config_keys():
    assert [*options.option_fields(Mixed)] == ["of", "members", "factor"]
    options.check_keys(["of"], options.option_fields(Mixed), "source Mixed", "networks.x")
    with pytest.raises(UserError, match=r"networks.x.fator must be a key of source Mixed, got 'fator'. Did you mean"):
        options.check_keys(["of", "fator"], options.option_fields(Mixed), "source Mixed", "networks.x")


def test_values_are_parsed_by_type():
    assert options.parse_options(Mixed, {"of": "b", "factor": 1, "widths": (3,)}, "x") == {"of": "b", "factor": 1.0}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, r"x.of must be set: the network. The keys are \['of', 'members', 'factor'\]"),
        ({"of": 3}, "x.of must be the name of a network, got 3"),
        ({"of": "a", "factor": 2.0}, "x.factor must be less than 2, got 2.0"),
        ({"of": "a", "factor": "b"}, "x.factor must be a number, got 'b'"),
        ({"of": "a", "members": "b"}, "x.members must be a tuple of .*, got 'b'"),
    ],
)
def test_mistakes(raw, message):
    with pytest.raises(UserError, match=message):
        options.parse_options(Mixed, raw, "x")


def test_references_are_the_networks_that_the_options_name():
    assert options.reference_fields(Mixed) == {"of": False, "members": True}
    assert options.references(Mixed, {"of": "b", "members": ("c", "d")}, "x") == ("b", "c", "d")
    assert options.references(Mixed, {"of": "b"}, "x") == ("b", "a")
    assert options.references(Mixed, {}, "x") == ("a",)  # the missing one is reported when the source is built


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"of": ("a",)}, r"x.of must be the name of a network, got \('a',\)"),
        ({"of": "a", "members": ()}, r"x.members must be a tuple of networks such as \('a', 'b'\), got \(\)"),
        ({"of": "a", "members": (1,)}, r"x.members must be a tuple of networks such as"),
    ],
)
def test_references_of_other_types_are_refused(raw, message):
    with pytest.raises(UserError, match=message):
        options.references(Mixed, raw, "x")
