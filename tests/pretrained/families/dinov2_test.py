"""DINOv2 against transformers: numbers at another image size, params, and settings that `ViT` does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import dinov2

CLASSIFIER = ["Dinov2ForImageClassification"]
GIANT = dict(hidden_size=1536, num_hidden_layers=40, num_attention_heads=24, use_swiglu_ffn=True)


@pytest.mark.parametrize("name", ["dinov2", pytest.param("dinov2_giant", marks=pytest.mark.slow)])
def test_numbers_of_transformers(name, tmp_path):
    cases.check_golden(name, tmp_path)


@pytest.mark.parametrize(("keys", "published"), [({}, 86_580_480), (GIANT, 1_136_480_768)])
def test_parameters_as_published(keys, published):
    """Without the token of masked patches; with a head of two classes."""
    width = keys.get("hidden_size", 768)
    counted = cases.count_params(dinov2, image_size=518, patch_size=14, **keys)
    assert counted == published - width + 2 * width + 2


def test_hidden_widths_of_gated_layers():
    assert dinov2.hidden_width(1536, 4, True) == 4096
    assert dinov2.hidden_width(10, 4, True) == 32
    assert dinov2.hidden_width(12, 4, False) == 48


def test_the_classifier_reads_the_mean_of_the_patches_too():
    assert cases.read_config(dinov2, architectures=CLASSIFIER).fields["pool"] == "class_mean"
    assert cases.read_config(dinov2, architectures=["Dinov2Model"]).fields["pool"] == "class"


def test_other_settings_are_refused():
    with pytest.raises(UserError, match="qkv_bias of config.json must be True, got False"):
        cases.read_config(dinov2, qkv_bias=False)
    with pytest.raises(UserError, match="architectures of config.json must be .*, got 'Dinov2Backbone'"):
        cases.read_config(dinov2, architectures=["Dinov2Backbone"])


@pytest.mark.parametrize("name", ["dinov2", "dinov2_giant"])
def test_the_written_config_is_read_again(name):
    cases.check_written(dinov2, name)


def test_fields_of_other_families_are_not_written():
    fields = dict(cases.read_config(dinov2, architectures=CLASSIFIER).fields)
    with pytest.raises(UserError, match="layer_scale must be greater than 0 to be written as DINOv2, got 0"):
        dinov2.to_config(fields | {"layer_scale": 0.0})
