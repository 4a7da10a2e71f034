"""Features of TFDS that choose a network: texts, classes and numbers, of images, texts and tables."""

import numpy as np
import pytest

import tiny_tfds
from jaxdistill.config import load
from jaxdistill.data import build, datasets
from jaxdistill.data.dataset import DenseSettings
from jaxdistill.errors import UserError
from tokenizer_files import write_wordpiece

SPLITS = {"train": "train[:4]", "validation": "train[4:]"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("routed")
    tiny_tfds.prepare_routed(path)
    return str(path)


@pytest.mark.parametrize(
    ("route", "names"), [("site", ("a", "b")), ("year", ("2000", "2001")), ("camera", ("left", "right"))]
)
def test_images(folder, route, names):
    """An image has its number for a value, and the features its remainder by 2."""
    dataset = datasets.load("tiny_routed", data_dir=folder, splits=SPLITS, route=route)
    assert dataset.routes == names
    for role, count in (("train", 4), ("validation", 2)):
        batch = dataset.split(role).take(np.arange(count)[::-1])
        assert batch["route"].tolist() == (batch["image"][:, 0, 0, 0] % 2).tolist()


def test_a_table_and_a_config(folder):
    table = datasets.load("tiny_routed", data_dir=folder, splits=SPLITS, label="label", columns=("year",), route="site")
    batch = table.split("train").take(np.arange(4))
    assert batch["route"].tolist() == (batch["features"][:, 0] == batch["features"].max()).tolist()
    section = {"name": "tiny_routed", "data_dir": folder, "splits": SPLITS, "route": "year"}
    settings = {"data": section, "networks": {"student": {"model": "mlp"}}, "stages": {"train": {}}}
    held = build.open_dataset(load.stages(settings)["train"].data)
    batch = held.split("train").take(np.arange(4))
    assert (held.routes, batch["route"].tolist()) == (("2000", "2001"), (batch["image"][:, 0, 0, 0] % 2).tolist())


def test_texts_and_masks(tiny_tfds_dir, tiny_dense_dir, tmp_path):
    words = write_wordpiece(tmp_path / "words")
    texts = datasets.load(
        "tiny_pairs", data_dir=tiny_tfds_dir, tokenizer=words, length=4, splits={"train": "train"}, route="label"
    )
    assert (texts.routes, texts.split("train").take(np.arange(2))["route"].tolist()) == (("cat",), [0, 0])
    with pytest.raises(UserError, match="data.route must be a feature of .* whole numbers, got 'objects' of 'tiny_den"):
        datasets.load("tiny_dense", data_dir=tiny_dense_dir, dense=DenseSettings("masks"), route="objects")


@pytest.mark.parametrize(
    ("route", "test", "message"),
    [
        ("sit", "", "data.route must be a feature of tiny_routed, got 'sit'.*'site'"),
        ("weight", "", "data.route must be a feature of texts.*got 'weight' of 'tiny_routed', Scalar.*float32"),
        ("image", "", "data.route must be a feature of texts.*got 'image'"),
        ("site", "test", r"example \d of the split 'test' of 'tiny_routed' must have a string .*got (''|b'.xff')"),
        ("camera", "test", r"example \d of the split 'test' of 'tiny_routed' must have a string .* got None"),
    ],
)
def test_mistakes(folder, route, test, message):
    with pytest.raises(UserError, match=message):
        datasets.load("tiny_routed", data_dir=folder, splits=SPLITS | {"test": test}, route=route)
