"""RoBERTa against transformers: numbers, params, and settings that `Encoder` does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import roberta

BASE = cases.BERT | {"architectures": ["RobertaForMaskedLM"], "pad_token_id": 1}


@pytest.mark.parametrize("name", ["roberta_class", pytest.param("roberta_token", marks=pytest.mark.slow)])
def test_numbers_of_transformers(name, tmp_path):
    cases.check_golden(name, tmp_path)


def test_parameters_as_published():
    keys = dict(vocab_size=50_265, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, type_vocab_size=1)
    keys |= dict(intermediate_size=3072, max_position_embeddings=514, layer_norm_eps=1e-5)
    assert cases.count_params(roberta, **keys) == 124_645_632 + 2 * 769


def test_positions_begin_after_that_of_padding():
    assert cases.read_config(roberta, **cases.BERT, pad_token_id=3).fields["first"] == 4
    assert cases.read_config(roberta, **cases.BERT).fields["first"] == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "relu"),
        ("is_decoder", True),
        ("tie_word_embeddings", False),
        ("architectures", ["RobertaForCausalLM"]),
    ],
)
def test_other_settings_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} of config.json must be .*, got"):
        cases.read_config(roberta, **BASE | {key: value})


@pytest.mark.parametrize("name", ["roberta_class", "roberta_token"])
def test_the_written_config_is_read_again(name):
    cases.check_written(roberta, name)


def test_fields_of_other_families_are_not_written():
    fields = dict(cases.read_config(roberta, **cases.BERT).fields)
    with pytest.raises(UserError, match="pooler must be 'tanh' to be written as RoBERTa, got 'relu'"):
        roberta.to_config(fields | {"pooler": "relu"})
