"""ELECTRA against transformers: numbers, params, and settings that `Encoder` does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import electra

SMALL = dict(vocab_size=30_522, hidden_size=256, num_hidden_layers=12, num_attention_heads=4, type_vocab_size=2)
SMALL |= dict(intermediate_size=1024, max_position_embeddings=512, embedding_size=128)


@pytest.mark.parametrize("name", ["electra_class", pytest.param("electra_token", marks=pytest.mark.slow)])
def test_numbers_of_transformers(name, tmp_path):
    cases.check_golden(name, tmp_path)


def test_parameters_as_published():
    """13,549,314 with the head of two classes."""
    assert cases.count_params(electra, **SMALL) == 13_549_314


def test_the_discriminator_is_the_network_without_its_head():
    found = cases.read_config(electra, **SMALL, architectures=["ElectraForPreTraining"])
    assert found.is_ignored("discriminator_predictions.dense.weight")
    assert found.fields["embed_width"] == 128
    assert cases.read_config(electra, **SMALL | {"embedding_size": 256}).fields["embed_width"] == 0


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "gelu_new"), ("architectures", ["ElectraForCausalLM"])])
def test_other_settings_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} of config.json must be .*, got"):
        cases.read_config(electra, **SMALL | {"architectures": ["ElectraForMaskedLM"], key: value})


@pytest.mark.parametrize("name", ["electra_class", "electra_token"])
def test_the_written_config_is_read_again(name):
    cases.check_written(electra, name)
