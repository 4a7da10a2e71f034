"""DeiT against transformers: numbers, params, and settings that `ViT` does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import deit

BOTH = "DeiTForImageClassificationWithTeacher"


@pytest.mark.parametrize("name", ["deit", pytest.param("deit_token", marks=pytest.mark.slow)])
def test_numbers_of_transformers(name, tmp_path):
    cases.check_golden(name, tmp_path)


def test_parameters_as_published():
    assert cases.count_params(deit, architectures=[BOTH], num_labels=1000) == 87_338_192


def test_both_heads_are_replaced():
    found = cases.read_config(deit, architectures=[BOTH])
    assert all(found.is_head(f"params.{name}.kernel") for name in ("head", "distillation_head"))
    assert {entry.tensor for entry in found.entries if entry.head and entry.name.endswith("kernel")} == {
        "cls_classifier.weight",
        "distillation_classifier.weight",
    }


def test_other_settings_are_refused():
    with pytest.raises(UserError, match="architectures of config.json must be .*, got 'DeiTForMaskedImageModeling'"):
        cases.read_config(deit, architectures=["DeiTForMaskedImageModeling"])


@pytest.mark.parametrize("name", ["deit", "deit_token"])
def test_the_written_config_is_read_again(name):
    cases.check_written(deit, name)
