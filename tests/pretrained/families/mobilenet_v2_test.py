"""MobileNetV2: outputs of timm, names of torchvision, and names of others."""

import pytest

import convolutional_cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import mobilenet_v2


def test_outputs_of_the_reference(tmp_path):
    convolutional_cases.check_golden("mobilenet_v2_timm", tmp_path)


def test_names_of_torchvision():
    fields = convolutional_cases.check_names("mobilenet_v2_names", mobilenet_v2).fields
    assert fields == dict(classes=1000, width=0.1, depths=(1, 2, 3, 4, 3, 3, 1))


def timm_shapes(**changed):
    return convolutional_cases.load_golden("mobilenet_v2_timm")[0]["shapes"] | changed


def test_other_networks_with_such_blocks_are_no_mobilenet_v2():
    assert mobilenet_v2.from_shapes(timm_shapes(**{"blocks.3.0.se.conv_reduce.weight": (2, 8, 1, 1)})) is None
    assert mobilenet_v2.from_shapes(timm_shapes(**{"blocks.3.0.conv_dw.weight": (48, 1, 5, 5)})) is None


def test_channels_of_no_width_are_refused():
    # timm's mobilenetv2_110d widens the blocks and not the stem.
    with pytest.raises(UserError, match=r"those of one of the widths .*, got \[8, 1280, 8, 8, 24, 32\]"):
        mobilenet_v2.from_shapes(timm_shapes(**{"blocks.4.0.conv_pwl.weight": (24, 96, 1, 1)}))
