"""Llama, Mistral and Qwen against transformers: numbers, params, and settings that `Decoder` does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import llama

SLOW = pytest.mark.slow
NAMES = ["llama_3_1", "mistral", "qwen3"]
LLAMA_2 = dict(vocab_size=32_000, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32)
LLAMA_2 |= dict(intermediate_size=11_008)
LLAMA_3 = dict(vocab_size=128_256, intermediate_size=14_336, num_key_value_heads=8)
SCALING = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
QWEN2 = dict(model_type="qwen2", vocab_size=151_936, hidden_size=896, num_hidden_layers=24, num_attention_heads=14)
QWEN2 |= dict(num_key_value_heads=2, intermediate_size=4864, tie_word_embeddings=True)
QWEN3 = dict(model_type="qwen3", vocab_size=151_936, hidden_size=1024, num_hidden_layers=28, num_attention_heads=16)
QWEN3 |= dict(num_key_value_heads=8, intermediate_size=3072, head_dim=128, tie_word_embeddings=True)


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=SLOW) for name in ("llama_2", "qwen2"))])
def test_numbers_of_transformers(name, tmp_path):
    cases.check_golden(name, tmp_path, scan=name == "llama_3_1")


@pytest.mark.parametrize(
    ("keys", "published"),
    [
        (LLAMA_2, 6_738_415_616),
        (LLAMA_2 | LLAMA_3, 8_030_261_248),
        (LLAMA_2 | LLAMA_3 | {"model_type": "mistral", "vocab_size": 32_000}, 7_241_732_096),
        (QWEN2, 494_032_768),
        (QWEN3, 596_049_920),
    ],
)
def test_parameters_as_published(keys, published):
    assert cases.count_params(llama, **keys) == published


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **SCALING}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **SCALING}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **SCALING}},
    ],
)
def test_rotary_scaling_by_the_keys_of_each_version(keys):
    fields = cases.read_config(llama, **LLAMA_2, **keys).fields
    assert (fields["rotary_base"], fields["rotary_scaling"]) == (5e5, (8.0, 1.0, 4.0, 8192.0))


@pytest.mark.parametrize(
    ("keys", "window"),
    [
        ({"model_type": "mistral"}, 4096),
        ({"model_type": "mistral", "sliding_window": None}, 0),
        ({"model_type": "mistral", "sliding_window": 7}, 7),
        ({"model_type": "qwen2", "sliding_window": 7}, 0),
        ({"model_type": "qwen2", "sliding_window": 7, "use_sliding_window": True, "max_window_layers": 32}, 0),
        ({"model_type": "qwen3", "sliding_window": 7, "use_sliding_window": True, "max_window_layers": 0}, 7),
    ],
)
def test_windows(keys, window):
    assert cases.read_config(llama, **LLAMA_2 | keys).fields["window"] == window


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_type of config.json must be .*, got 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type of config.json must be .*, got 'linear'"),
        ({"rope_scaling": {"type": "llama3", "factor": 2.0}}, "rope_type .* 'llama3' needs .'low_freq_factor'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor of config.json must be 1.0"),
        ({"hidden_act": "gelu"}, "hidden_act of config.json must be .*, got 'gelu'"),
        ({"attention_bias": True}, "attention_bias of config.json must be False, got True"),
        ({"mlp_bias": True}, "mlp_bias of config.json must be False, got True"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "architectures of config.json must be .*, got 'Llama",
        ),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 28},
            "layer_types of config.json must be one kind in all layers, got .'full_attention', 'sliding_attention'",
        ),
    ],
)
def test_other_settings_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        cases.read_config(llama, **LLAMA_2 | keys)


def test_a_tied_head_is_not_read_twice():
    assert cases.read_config(llama, **LLAMA_2, tie_word_embeddings=True).is_ignored("lm_head.weight")
    assert not cases.read_config(llama, **LLAMA_2).is_ignored("lm_head.weight")


@pytest.mark.parametrize("name", ["llama_2", "llama_3_1"])
def test_the_written_config_is_read_again(name):
    cases.check_written(llama, name)


@pytest.mark.parametrize(
    ("fields", "model_type"),
    [
        ({"window": 3}, "mistral"),
        ({"qkv_bias": True}, "qwen2"),
        ({"qk_norm": True, "head_width": 6}, "qwen3"),
        ({"qkv_bias": True, "window": 3}, "qwen2"),
    ],
)
def test_the_written_config_is_of_the_family_that_has_the_fields(fields, model_type):
    fields = dict(cases.read_config(llama, **LLAMA_2).fields) | fields
    written = llama.to_config(fields)
    assert written["model_type"] == model_type
    assert cases.read_config(llama, **written).fields == fields


def test_fields_of_no_family_are_not_written():
    fields = dict(cases.read_config(llama, **LLAMA_2).fields)
    for other in ({"activation": "relu"}, {"qkv_bias": True, "qk_norm": True}, {"positions": "learned"}):
        with pytest.raises(UserError, match="to be written as"):
            llama.to_config(fields | other)
