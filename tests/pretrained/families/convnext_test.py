"""ConvNeXt: outputs of torchvision, timm and transformers, and names and settings of others."""

import pathlib

import pytest

import convolutional_cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.families import convnext

HF = dict(hidden_sizes=[6, 10], depths=[1, 2], layer_norm_eps=1e-12, model_type="convnext")


def read(**changed):
    return convnext.from_config(ConfigJson(pathlib.Path("config.json"), HF | changed), ())


@pytest.mark.parametrize(
    "name", ["convnext", *(pytest.param(f"convnext_{library}", marks=pytest.mark.slow) for library in ("hf", "timm"))]
)
def test_outputs_of_the_reference(name, tmp_path):
    convolutional_cases.check_golden(name, tmp_path)


def test_names_of_timm():
    fields = convolutional_cases.check_names("convnext_timm", convnext).fields
    assert fields == dict(classes=5, depths=(1, 1, 1, 1), widths=(4, 6, 8, 10), patch=4)


def test_networks_without_layer_scale():
    shapes = convolutional_cases.load_golden("convnext_timm")[0]["shapes"]
    bare = {name: shape for name, shape in shapes.items() if not name.endswith("gamma")}
    assert convnext.from_shapes(bare).fields["layer_scale"] == 0


def test_other_stems_are_no_convnext():
    shapes = dict(convolutional_cases.load_golden("convnext_timm")[0]["shapes"])
    shapes["stem.2.weight"] = shapes.pop("stem.1.weight")  # overlapping patches
    assert convnext.from_shapes(shapes) is None


def test_other_settings_are_refused():
    with pytest.raises(UserError, match="hidden_act of config.json must be 'gelu', got 'relu'"):
        read(hidden_act="relu")


def test_the_written_config_is_read_again():
    fields = dict(read().fields)
    assert fields == dict(
        classes=2, depths=(1, 2), widths=(6, 10), patch=4, layer_scale=1e-6, drop_path=0.0, final_epsilon=1e-12
    )
    written = ConfigJson(pathlib.Path("config.json"), convnext.to_config(fields))
    assert convnext.from_config(written, ()).fields == fields
    with pytest.raises(UserError, match=r"epsilon must be 1e-06 to be written as ConvNeXt, got 1e-05"):
        convnext.to_config(fields | dict(epsilon=1e-5))
