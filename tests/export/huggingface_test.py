"""Folders that transformers loads: whole or not at all, with the same bits, tokenizer, images and card."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from exported_networks import examples_of, exported_of, text_predictor, vit_predictor
from jaxdistill.compress.low_rank import LowRank
from jaxdistill.compress.quantize import Quantize
from jaxdistill.compress.views import Views
from jaxdistill.errors import UserError
from jaxdistill.export import huggingface
from jaxdistill.export.exported import Exported
from jaxdistill.export.model_card import write_card
from jaxdistill.export.write import check_export, write_export
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.vit import ViT
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.pretrained.images import read_image_spec
from jaxdistill.pretrained.tensors import read_safetensors


@pytest.fixture(autouse=True)
def _no_transformers(monkeypatch):
    """The programs of `live_test.py` load such folders by transformers."""
    monkeypatch.setattr(huggingface, "MODULES", ("transformers_of_another_name",))


def write(folder, exported):
    return write_export(folder, exported, "huggingface", {})


MODULE = Encoder(classes=3, vocabulary=20, layers=1, width=8, heads=2, hidden=12, length=10)


def exported(tmp_path, **changed):
    shapes = jax.eval_shape(lambda: MODULE.init(jax.random.key(0), np.zeros((1, 4), np.int32)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    (tmp_path / "tokenizer").mkdir(exist_ok=True)
    (tmp_path / "tokenizer" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    facts = {"Data": "ag_news", "Seed": "3"}
    keys = {
        "class_names": ("a", "b", "c"),
        "tokenizer": str(tmp_path / "tokenizer"),
        "facts": facts,
        "results": ({"network": "student", "accuracy": 0.9, "parameters": 1234, "confusion": [[1]]},),
    }
    return Exported("student", "encoder", MODULE, variables, **(keys | changed))


def test_a_folder_is_whole(tmp_path):
    lines = write(tmp_path / "out", exported(tmp_path))
    assert "not installed; tensors are equal bit by bit" in lines[1]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["README.md", "config.json", "export.json", "model.safetensors", "vocab.txt"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| Data | ag_news |" in card
    assert "| network | accuracy | parameters |\n| --- | --- | --- |\n| student | 0.9 | 1,234 |" in card
    assert "license: other  # set the licence" in card


def test_the_same_network_is_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name, exported(tmp_path))
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_images_of_one_channel(tmp_path):
    module = ViT(3, patch=4, size=8, layers=1, width=8, heads=2)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), np.zeros((1, 8, 8, 1))))
    variables = jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes)
    spec = ImageSpec((8, 8, 1), (0.5,), (0.5,), shorter_side=0, interpolation="bilinear")
    write(tmp_path / "out", Exported("student", "vit", module, variables, image_spec=spec))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_channels"] == 1
    kernel = read_safetensors(tmp_path / "out" / "model.safetensors")[
        "vit.embeddings.patch_embeddings.projection.weight"
    ]
    assert kernel.shape == (8, 1, 4, 4)


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="must not exist"):
        write(tmp_path / "out", exported(tmp_path))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_of_a_launch_that_was_killed_is_kept(tmp_path):
    """It was killed after the folder had its name, and before the stage was done."""
    write(tmp_path / "out", exported(tmp_path))
    assert "bit by bit" in write(tmp_path / "out", exported(tmp_path))[1]
    with pytest.raises(UserError, match="must not exist"):
        write(tmp_path / "out", exported(tmp_path, facts={}))
    assert "ag_news" in (tmp_path / "out" / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tokenizer"]


def test_a_failure_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface, "write_safetensors", lambda path, tensors: path.write_bytes(b"half"))
    with pytest.raises(UserError, match="must be a whole safetensors file"):
        write(tmp_path / "out", exported(tmp_path))
    assert not (tmp_path / "out").exists()


def test_other_bits_are_noticed(tmp_path, monkeypatch):
    whole = huggingface.write_safetensors
    monkeypatch.setattr(
        huggingface, "write_safetensors", lambda path, arrays: whole(path, {key: x + 1 for key, x in arrays.items()})
    )
    with pytest.raises(UserError, match="must have the network's numbers, got others"):
        write(tmp_path / "out", exported(tmp_path))


@pytest.mark.parametrize("shorter_side", [0, 256])
def test_images_come_back(tmp_path, shorter_side):
    numbers = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    spec = ImageSpec((224, 224, 3), *numbers, shorter_side=shorter_side, interpolation="bicubic")
    write(tmp_path / "out", exported(tmp_path, image_spec=spec))
    assert read_image_spec(tmp_path / "out", 224) == spec


def test_classes_without_names_are_numbered(tmp_path):
    write(tmp_path / "out", exported(tmp_path, class_names=(), results=()))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["label2id"] == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    assert "## Results" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_transformers_loads_the_folder_and_computes_the_same(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    leaving = exported(tmp_path)
    write(tmp_path / "out", leaving)
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report.values())
    tokens = np.array([[2, 5, 7, 3, 0], [2, 9, 3, 0, 0]])
    mask = (tokens > 0).astype(np.int32)
    with torch.no_grad():
        expected = model.eval()(torch.tensor(tokens), attention_mask=torch.tensor(mask)).logits.numpy()
    actual = MODULE.apply(leaving.variables, tokens, token_mask=mask).logits
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("teacher", "distilled"), [("teacher (stage:teacher)", True), ("none", False)])
def test_only_a_network_with_a_teacher_is_called_distilled(tmp_path, teacher, distilled):
    card = write_card(exported(tmp_path, facts={"Teacher": teacher}))
    assert ("Trained by knowledge distillation with jaxdistill." in card) == distilled
    assert ("knowledge-distillation" in card) == distilled
    assert ("Trained with jaxdistill." in card) != distilled


LIVE = {
    "text": (text_predictor(), "encoder"),
    "image": (vit_predictor(), "vit"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIVE)
def test_transformers_predicts_the_same(tmp_path, name, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    monkeypatch.setattr(huggingface, "MODULES", ("transformers", "torch"))
    predictor, model = LIVE[name]
    network = dataclasses.replace(exported_of(predictor), model=model, image_spec=predictor.images)
    lines = write_export(tmp_path / "out", network, "huggingface", examples_of(predictor))
    assert "read again by transformers on 24 examples" in lines[1]
    report = json.loads((tmp_path / "out" / "export.json").read_text())["reloaded"]
    assert report["largest_difference"] < 1e-4


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (Quantize(activations=8), "compress.small.activations must be left out for the format 'huggingface'"),
        (LowRank(rank=2), "compress.small.view must be left out for the format 'huggingface'"),
    ],
)
def test_views_that_change_layers_are_refused(tmp_path, view, message):
    predictor = text_predictor()
    source = dataclasses.replace(predictor.source, views=Views.of({"small": view}))
    with pytest.raises(UserError, match=message):
        check_export(exported(tmp_path, predictor=dataclasses.replace(predictor, source=source)), "huggingface")


def test_few_bits_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"export\.bits must be 0 for the format 'huggingface'"):
        write(tmp_path / "out", exported(tmp_path, bits=8))
