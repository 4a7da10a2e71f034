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


def test_the_options_of_a_dataclass_are_selected():
    assert options.select(Mixed, {"of": "b", "members": ("c",), "factor": 1.0, "widths": (3,)}) == {
        "of": "b",
        "members": ("c",),
        "factor": 1.0,
    }


def test_references_are_the_networks_that_the_options_name():
    assert options.reference_fields(Mixed) == {"of": False, "members": True}
    assert options.references(Mixed, {"of": "b", "members": ("c", "d")}, "x") == ("b", "c", "d")


def test_an_empty_tuple_of_references_is_refused():
    with pytest.raises(UserError, match=r"x.members must be a tuple of networks such as \('a', 'b'\), got \(\)"):
        options.references(Mixed, {"of": "a", "members": ()}, "x")
