"""References to weights of other libraries in a config: the model follows from them."""

import pytest

from jaxdistill.config import references
from jaxdistill.config.formats import format_of
from jaxdistill.config.members import NetworkConfig
from jaxdistill.config.parse import FlagText
from jaxdistill.errors import UserError
from pretrained_folders import write_bert


def network(folder, **keys):
    return NetworkConfig.parse({"source": "trained", "weights": f"hf:{folder}", **keys}, "networks.student")


def test_names_of_formats():
    assert format_of("hf:folder") == "hf"
    assert format_of("stage:teacher") == format_of("runs/x") == format_of("tf:folder") == format_of("") == ""


def test_the_model_and_its_fields_follow_from_the_weights(tmp_path):
    options = network(write_bert(tmp_path)).options
    assert (options["model"], options["width"], options["classes"]) == ("encoder", 8, 3)


def test_fields_of_the_config_count_before_those_of_the_weights(tmp_path):
    options = network(write_bert(tmp_path), dropout=0.3, layers=1, blocks=(1,)).options
    assert (options["dropout"], options["layers"], options["width"]) == (0.3, 1, 8)


def test_a_network_of_some_blocks_has_as_many(tmp_path):
    assert network(write_bert(tmp_path), blocks=(1,)).options["layers"] == 1
    assert network(tmp_path, blocks=()).options["layers"] == 2
    assert network(tmp_path, blocks=FlagText("(1,)")).options["layers"] == 1


def test_a_format_with_another_name_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="format of networks.student.weights .*'hff'. Did you mean 'hf'.*'torch'"):
        NetworkConfig.parse({"source": "trained", "weights": "hff:folder"}, "networks.student")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my:run").mkdir()
    with pytest.raises(UserError, match="model must be set"):
        NetworkConfig.parse({"source": "trained", "weights": "my:run"}, "networks.student")


def test_a_new_head_has_the_classes_of_the_data(tmp_path):
    assert network(write_bert(tmp_path), head="new").options["classes"] == 0


def test_the_reference_carries_head_and_blocks(tmp_path):
    config = network(write_bert(tmp_path), head="new", blocks=(1,), layers=1)
    ref = references.parse_networks({"student": config})["student"]["weights"]
    assert (ref.format, ref.folder, ref.new_head, ref.blocks) == ("hf", tmp_path, True, (1,))
    assert str(ref) == f"hf:{tmp_path}"
    assert ref.stored_name("params.head.kernel") == ""
    assert ref.stored_name("params.block0.norm1.scale") == "params.block1.norm1.scale"
    assert ref.leaves_out("params.block0.norm1.scale")
    assert ref.leaves_out("params.head_norm.scale")
    assert not ref.leaves_out("params.embed.embedding")


def test_mistakes_name_the_key(tmp_path):
    with pytest.raises(UserError, match="networks.student.weights: .*There is no folder"):
        network(tmp_path / "nowhere")
    with pytest.raises(UserError, match="networks.student.weights must name a file or a folder, got 'hf:'"):
        network("")
    with pytest.raises(UserError, match="networks.student.head must be"):
        network(write_bert(tmp_path), head="fresh")


@pytest.mark.parametrize("keys", [{"head": "new"}, {"blocks": (0,)}])
def test_keys_about_weights_are_refused_without_them(keys):
    with pytest.raises(UserError, match=f"networks.student.{next(iter(keys))} must be left out without weights"):
        NetworkConfig.parse({"model": "encoder", **keys}, "networks.student")


@pytest.mark.parametrize("name", ["head.kernel", "head_norm.scale", "distillation_head.bias"])
def test_arrays_of_heads_are_not_those_of_a_new_head(name):
    ref = references.WeightsRef(new_head=True)
    assert ref.stored_name(f"params.{name}") == ""
    assert ref.leaves_out(f"params.{name}")
    assert ref.stored_name(f"params.block0.{name}") == f"params.block0.{name}"
