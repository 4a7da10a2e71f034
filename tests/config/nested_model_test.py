"""Models within models: their keys, defaults and messages."""

import pytest

from jaxdistill.config.nested_model import NestedModel
from jaxdistill.config.parse import FlagText, plain
from jaxdistill.errors import UserError


def test_keys_have_the_types_and_defaults_of_the_model():
    nested = NestedModel.parse({"model": "cifar_resnet", "depth": FlagText("8")}, "encoder")
    assert nested.model == "cifar_resnet"
    assert nested.fields == {"depth": 8, "width": 1, "stem": 0, "remat": ""}
    assert NestedModel.parse(plain(nested), "encoder") == nested


def test_a_flag_that_names_another_model_drops_the_keys_of_the_file():
    nested = NestedModel.parse({"model": FlagText("vgg"), "output_stride": 8, "depth": FlagText("11")}, "encoder")
    assert nested.fields["depth"] == 11
    assert "output_stride" not in nested.fields


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("resnet", "encoder must be a section such as dict"),
        ({"depth": 18}, "encoder.model must be set"),
        ({"model": "resnt"}, "encoder.model must be.*resnet"),
        ({"model": "resnet", "classes": 3}, "encoder.classes must be a key of model 'resnet'"),
        ({"model": "resnet", "depth": "deep"}, "encoder.depth must be a whole number"),
    ],
)
def test_bad_sections_are_refused(raw, message):
    with pytest.raises(UserError, match=message):
        NestedModel.parse(raw, "encoder")
