"""VGG: outputs of torchvision and timm, and names of others."""

import pytest

import convolutional_cases
from jaxdistill.pretrained.families import vgg


@pytest.mark.parametrize("name", ["vgg_bn", pytest.param("vgg_timm", marks=pytest.mark.slow)])
def test_outputs_of_the_reference(name, tmp_path):
    convolutional_cases.check_golden(name, tmp_path)


def test_names_of_timm():
    fields = convolutional_cases.check_names("vgg_timm", vgg).fields
    assert fields == dict(classes=5, depth=11, norm=False, channels=(4, 6, 8, 8, 8), hidden=12)


def test_a_network_of_other_numbers_of_convolutions_is_no_vgg():
    shapes = dict(convolutional_cases.load_golden("vgg_timm")[0]["shapes"])
    shapes["features.22.weight"] = (8, 8, 3, 3)
    assert vgg.from_shapes(shapes) is None
