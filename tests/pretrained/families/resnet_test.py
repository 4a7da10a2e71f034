"""ResNet and ResNeXt: outputs of torchvision and transformers, and names and settings of others."""

import pathlib

import pytest

import convolutional_cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.families import resnet

HF = dict(embedding_size=4, hidden_sizes=[16, 32], depths=[2, 1], model_type="resnet", downsample_in_bottleneck=True)


def read(**changed):
    return resnet.from_config(ConfigJson(pathlib.Path("config.json"), HF | changed), ())


@pytest.mark.parametrize("name", ["resnext", "resnet_hf", pytest.param("resnet_basic", marks=pytest.mark.slow)])
def test_outputs_of_the_reference(name, tmp_path):
    convolutional_cases.check_golden(name, tmp_path)


def test_names_of_timm():
    fields = convolutional_cases.check_names("resnet_names", resnet).fields
    assert fields == dict(classes=1000, width=64, depth=50, groups=1, width_per_group=64)


@pytest.mark.parametrize(
    ("bottleneck", "depths", "fields"),
    [
        (False, (3, 4, 6, 3), dict(depth=34)),
        (True, (3, 8, 36, 3), dict(depth=152)),
        (True, (2, 2, 2, 2), dict(depth=50, depths=(2, 2, 2, 2))),  # timm's resnet26
    ],
)
def test_depths_of_published_networks_and_others(bottleneck, depths, fields):
    assert resnet.depth_fields(bottleneck, depths) == fields


def test_a_stem_of_3x3_is_the_form_of_cifar():
    shapes = convolutional_cases.load_golden("resnext")[0]["shapes"]
    assert resnet.from_shapes(shapes | {"conv1.weight": (64, 3, 3, 3)}).fields["form"] == "cifar"


@pytest.mark.parametrize("changed", [("conv1.weight", "conv1.0.weight"), ("layer1.0.bn1.running_mean", "layer1.0.gn")])
def test_other_stems_and_norms_are_no_resnet(changed):
    shapes = dict(convolutional_cases.load_golden("resnext")[0]["shapes"])
    shapes[changed[1]] = shapes.pop(changed[0])
    assert resnet.from_shapes(shapes) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(hidden_act="gelu"), "hidden_act of config.json must be 'relu', got 'gelu'"),
        (dict(downsample_in_first_stage=True), "downsample_in_first_stage of config.json must be False, got True"),
        (
            dict(hidden_sizes=[10, 20]),
            r"hidden_sizes of config.json must be \[16, 32\] with embedding_size=4, got \[10",
        ),
        (dict(layer_type="plain"), "layer_type of config.json must be one that is supported, got 'plain'"),
    ],
)
def test_other_settings_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        read(**changed)


def test_the_written_config_is_read_again():
    fields = dict(read().fields)
    assert fields == dict(classes=2, width=4, depth=50, depths=(2, 1), stride_first=True)
    assert resnet.from_config(ConfigJson(pathlib.Path("config.json"), resnet.to_config(fields)), ()).fields == fields
    with pytest.raises(UserError, match="groups must be 1 to be written as ResNet, got 32"):
        resnet.to_config(fields | dict(groups=32))
