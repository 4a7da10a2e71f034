"""Folders of Hugging Face: shards, and folders that lack something."""

import json

import pytest

from jaxdistill.errors import UserError
from jaxdistill.pretrained.huggingface import INDEX, families_by_type, open_folder
from pretrained_folders import bert_tensors, write_bert, write_shards


def opened(folder):
    return open_folder(folder, f"hf:{folder}")


def test_the_model_follows_from_the_config(tmp_path):
    pretrained = opened(write_bert(tmp_path))
    assert pretrained.correspondence.model == "encoder"
    assert pretrained.correspondence.fields["classes"] == 3
    assert pretrained.correspondence.fields["hidden"] == 12
    assert pretrained.meaning.class_names == ("bad", "good", "so-so")
    assert pretrained.image_spec is None


def test_shards_are_one_set_of_tensors(tmp_path):
    sharded = opened(write_shards(tmp_path))
    assert {name: x.shape for name, x in sharded.tensors.items()} == {n: x.shape for n, x in bert_tensors().items()}
    assert len(sharded.files) == 3


def without(name):
    return lambda folder: (folder / name).unlink()


def change_index(change):
    def damage(folder):
        places = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps(change(places)))

    return damage


SECOND = "model-00002-of-00003.safetensors"

DAMAGES = {
    "no config": (without("config.json"), "must have a config.json, got .*model-00001"),
    "no index": (without(INDEX), "must have model.safetensors or model.safetensors.index.json"),
    "a missing shard": (without(SECOND), rf"got none of \['{SECOND}'\]"),
    "an index of another kind": (change_index(lambda index: {"map": {}}), "JSON with a weight_map"),
    "an empty index": (
        change_index(lambda index: {"weight_map": {}}),
        f"{INDEX} must name files of tensors, got an empty weight_map",
    ),
    "a tensor that is nowhere": (
        change_index(lambda x: {"weight_map": x["weight_map"] | {"ghost": SECOND}}),
        r"got \['ghost'\]",
    ),
    "a path out of the folder": (change_index(lambda x: {"weight_map": {"a": "../a.safetensors"}}), "got none of"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_folders_are_refused(tmp_path, name):
    damage, message = DAMAGES[name]
    damage(write_shards(tmp_path))
    with pytest.raises(UserError, match=message):
        opened(tmp_path)


def test_an_unknown_architecture_is_answered_with_the_nearest_and_the_list(tmp_path):
    with pytest.raises(UserError, match="got 'berd'. Did you mean 'bert'") as caught:
        opened(write_bert(tmp_path, model_type="berd"))
    assert all(repr(name) in str(caught.value) for name in families_by_type())


@pytest.mark.parametrize(
    "changed",
    [
        {"id2label": {"bad": 0}},
        {"id2label": ["bad"]},
        {"num_hidden_layers": 1.5},
        {"num_attention_heads": [2]},
        {"num_attention_heads": 3},
    ],
)
def test_values_of_another_type_are_refused_with_the_file(tmp_path, changed):
    with pytest.raises(UserError, match="config.json must"):
        opened(write_bert(tmp_path, **changed))


def test_a_model_type_that_is_no_name_is_unknown(tmp_path):
    with pytest.raises(UserError, match="model_type of .*got \"\\['bert'\\]\""):
        opened(write_bert(tmp_path, model_type=["bert"]))


def test_a_folder_of_pickles_is_refused_with_the_command_that_converts_it(tmp_path):
    write_bert(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin, a pickle.*torch.load\(.*weights_only=True\)"):
        opened(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        opened(tmp_path / "nowhere")
