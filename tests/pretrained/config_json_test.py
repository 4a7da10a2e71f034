"""Keys of a `config.json`: names, numbers and settings that a model does not have."""

import pathlib

import pytest

from jaxdistill.errors import UserError
from jaxdistill.pretrained.config_json import ConfigJson


def config(**values):
    return ConfigJson(pathlib.Path("bert/config.json"), values)


def test_values_and_defaults():
    keys = config(hidden_size=8, dropout=None, id2label={"1": "b", "0": "a"}, architectures=["BertModel"])
    assert keys["hidden_size"] == keys.number("hidden_size") == 8
    assert keys.get("dropout", 0.1) == 0.1
    assert keys.class_names == ("a", "b")
    assert keys.num_labels == 2
    assert keys.architecture == "BertModel"
    assert config().architecture == ""
    assert config(id2label={"0": "LABEL_0", "1": "LABEL_1"}).class_names == ()


BAD = {
    "no list": (
        lambda: config(architectures="BertModel").architecture,
        "architectures of bert/config.json must be a list of names, got 'BertModel'",
    ),
    "missing": (lambda: config(width=3)["hidden_size"], "must have the key 'hidden_size', got .'width'"),
    "text": (lambda: config(hidden_size="8").number("hidden_size"), "must be a number of at least 0, got '8'"),
    "negative": (lambda: config(layers=-1).number("layers"), "at least 0, got -1"),
    "activation": (lambda: config(act="gelo").activation("act"), "act of bert/config.json .*Did you mean 'gelu'"),
    "setting": (
        lambda: config(position_embedding_type="relative_key").require("position_embedding_type", ("absolute",)),
        "position_embedding_type of bert/config.json must be 'absolute', got 'relative_key'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_refused_with_the_key_and_the_file(name):
    read, message = BAD[name]
    with pytest.raises(UserError, match=message):
        read()


@pytest.mark.parametrize(
    ("text", "message"), [("{", "must be a JSON file"), ("[1]", "must be a JSON object, got a list")]
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        ConfigJson.read(tmp_path / "config.json")
