"""GPT-2 against transformers: numbers, params, and settings that `Decoder` does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import gpt2

SMALL = dict(vocab_size=50_257, n_embd=768, n_layer=12, n_head=12, n_positions=1024)


def test_numbers_of_transformers(tmp_path):
    cases.check_golden("gpt2", tmp_path)


def test_parameters_as_published():
    assert cases.count_params(gpt2, **SMALL) == 124_439_808


def test_an_untied_head_has_its_own_tensor():
    tied, untied = (cases.read_config(gpt2, **SMALL, tie_word_embeddings=tied) for tied in (True, False))
    assert tied.is_ignored("lm_head.weight")
    assert not untied.is_ignored("lm_head.weight")
    assert (tied.fields["tied"], untied.fields["tied"]) == (True, False)


def test_masks_of_old_files_are_ignored():
    found = cases.read_config(gpt2, **SMALL)
    assert found.is_ignored("h.0.attn.bias")
    assert found.is_ignored("transformer.h.11.attn.masked_bias")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("activation_function", "tanh"),
        ("architectures", ["GPT2ForSequenceClassification"]),
    ],
)
def test_other_settings_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} of config.json must be .*, got"):
        cases.read_config(gpt2, **SMALL | {key: value})


def test_the_written_config_is_read_again():
    cases.check_written(gpt2, "gpt2")
