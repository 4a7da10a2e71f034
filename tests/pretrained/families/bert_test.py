"""BERT: heads by architecture, and settings that it does not have."""

import pathlib

import jax
import pytest

import pretrained_cases as cases
from jaxdistill.core import count
from jaxdistill.errors import UserError
from jaxdistill.models.encoder import Encoder
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.families import bert
from pretrained_folders import BERT, bert_tensors


def correspondence(names=(), **changed):
    return bert.from_config(ConfigJson(pathlib.Path("config.json"), BERT | changed), names)


@pytest.mark.parametrize(
    ("architecture", "predicts", "classes"),
    [
        ("BertForSequenceClassification", "class", 3),
        ("BertForMaskedLM", "token", 20),
        ("BertForPreTraining", "token", 20),
    ],
)
def test_heads(architecture, predicts, classes):
    fields = correspondence(architectures=[architecture]).fields
    assert (fields["predicts"], fields["classes"]) == (predicts, classes)


def test_a_pooler_beside_a_head_over_tokens_is_ignored():
    assert correspondence(architectures=["BertForPreTraining"]).is_ignored("bert.pooler.dense.weight")
    assert not correspondence().is_ignored("bert.pooler.dense.weight")


def test_names_with_and_without_prefix():
    for prefix in ("bert.", ""):
        names = bert_tensors(prefix)
        entries = correspondence(names).entries
        assert {entry.tensor for entry in entries if not entry.tensor.startswith("cls.")} == {*names}


def test_norms_by_their_old_names():
    """bert-base-uncased has them."""
    entries = correspondence(["bert.embeddings.LayerNorm.gamma"]).entries
    names = {entry.name: entry.tensor for entry in entries}
    assert names["params.embed_norm.scale"] == "bert.embeddings.LayerNorm.gamma"
    assert names["params.block1.norm2.bias"] == "bert.encoder.layer.1.output.LayerNorm.beta"
    assert names["params.pooler.bias"] == "bert.pooler.dense.bias"


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ("bert_class", "bert_token")])
def test_numbers_of_transformers(name, tmp_path):
    cases.check_golden(name, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("position_embedding_type", "relative_key"), ("is_decoder", True), ("hidden_act", "mish")]
)
def test_other_settings_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} of config.json"):
        correspondence(**{key: value})


def test_parameters_of_bert_base():
    keys = dict(vocab_size=30522, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
    fields = correspondence(**keys, max_position_embeddings=512).fields
    shapes = jax.eval_shape(lambda: Encoder(**fields).init(jax.random.key(0), jax.numpy.zeros((1, 4), int)))
    # 109,482,240 with the pooler (Devlin et al.: 110M), and a head of 3 classes
    assert count(shapes) == 109_482_240 + 3 * 768 + 3


def test_the_written_config_is_read_again():
    fields = dict(correspondence().fields)
    written = bert.to_config(fields)
    again = bert.from_config(ConfigJson(pathlib.Path("config.json"), BERT | written), ()).fields
    assert again == fields
