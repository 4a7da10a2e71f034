"""Gemma against transformers: numbers, params, and settings that `Decoder` does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import gemma

GEMMA_2B = dict(vocab_size=256_000, hidden_size=2048, num_hidden_layers=18, num_attention_heads=8, head_dim=256)
GEMMA_2B |= dict(num_key_value_heads=1, intermediate_size=16_384)


def test_numbers_of_transformers(tmp_path):
    cases.check_golden("gemma", tmp_path)


def test_parameters_as_published():
    assert cases.count_params(gemma, **GEMMA_2B) == 2_506_172_416


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh"])
def test_both_names_of_the_activation_are_the_approximation(activation):
    assert cases.read_config(gemma, **GEMMA_2B, hidden_act=activation).fields["activation"] == "geglu_tanh"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "silu"),
        ("hidden_activation", "relu"),
        ("use_bidirectional_attention", True),
        ("attention_bias", True),
    ],
)
def test_other_settings_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} of config.json must be .*, got"):
        cases.read_config(gemma, **GEMMA_2B | {key: value})


def test_the_written_config_is_read_again():
    cases.check_written(gemma, "gemma")
