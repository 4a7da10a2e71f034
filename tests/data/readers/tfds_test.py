"""TFDS datasets from ArrayRecord files, without TensorFlow."""

import sys
import types

import numpy as np
import pytest

import tiny_tfds
from conftest import SHARED
from jaxdistill.data import datasets, loader
from jaxdistill.data.dataset import DenseSettings
from jaxdistill.data.readers import tfds
from jaxdistill.errors import UserError
from jaxdistill.tasks.language_model import LanguageModel
from tokenizer_files import WORDPIECE, write_wordpiece


def load(folder, name="tiny_images", **options):
    return datasets.load(name, data_dir=folder, **options)


def test_images_and_labels(tiny_tfds_dir):
    dataset = load(tiny_tfds_dir, splits={"train": "train[:20]", "validation": "train[20:]", "test": "test"})
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 20, "validation": 10, "test": 9}
    assert (dataset.class_names, dataset.shape, dataset.name) == (tiny_tfds.CLASSES, tiny_tfds.SHAPE, "tiny_images")
    split, positions = dataset.split("train"), np.array([19, 0, 19])
    batch = split.take(positions)
    np.testing.assert_array_equal(batch["image"], _stored(split)[positions])
    np.testing.assert_array_equal(split.labels(), split.take(np.arange(20))["label"])
    whole = load(tiny_tfds_dir, splits={"train": "train"}).split("train")
    pixels = sorted(image.tobytes() for image in tiny_tfds.images("train"))
    assert sorted(image.tobytes() for image in _stored(whole)) == pixels  # TFDS shuffles when it prepares
    assert "tensorflow" not in sys.modules


def _stored(split):
    return split.take(np.arange(len(split)))["image"]


def test_the_default_splits(tiny_tfds_dir):
    dataset = load(tiny_tfds_dir)
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 27, "validation": 3, "test": 9}


def test_another_size_and_number_of_channels(tiny_tfds_dir):
    dataset = load(tiny_tfds_dir, size=4, channels=3)
    assert dataset.shape == dataset.split("train").take(np.arange(2))["image"].shape[1:] == (4, 4, 3)


def test_streamed_batches_are_those_of_the_arrays(tiny_tfds_dir):
    split = load(tiny_tfds_dir).split("train")
    streamed = loader.Streamed(split, seed=1, batch=4, classes=3)
    resident = loader.Resident.of(split, seed=1, batch=4, classes=3)
    for left, right in zip(streamed.step_inputs(5, 8), resident.step_inputs(5, 8), strict=True):
        batch = resident.make_batch(resident.resident, right)
        for field in ("image", "label", "index", "view"):
            np.testing.assert_array_equal(left[field], batch[field])


def test_a_text_byte_by_byte(tiny_tfds_dir):
    dataset = load(tiny_tfds_dir, "tiny_text", length=5)
    assert [*dataset.splits] == ["train", "test"]
    text = bytes(dataset.split("train").text)
    assert sorted(text.split(b"\n")) == sorted(line.encode() for line in tiny_tfds.TEXTS["train"])
    assert LanguageModel.is_default_for(dataset)
    with pytest.raises(UserError, match="'tiny_text', got 0. It is the number of tokens of a window"):
        load(tiny_tfds_dir, "tiny_text")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tiny_images", {"splits": {"train": "trian"}}, r"no split 'trian'.*There are \{'train': 30, 'test': 9\}"),
        ("tiny_pairs", {}, "data.tokenizer must be set for the texts of .tiny_pairs.*folder of a checkpoint"),
        ("tiny_imges", {}, "data.name must be a dataset, got 'tiny_imges'. Did you mean 'tiny_images'"),
    ],
    ids=str,
)
def test_mistakes(name, options, message, tiny_tfds_dir):
    with pytest.raises(UserError, match=message):
        load(tiny_tfds_dir, name, **options)


def test_a_mask_of_another_name_is_named(monkeypatch):
    image = type("Image", (), {})
    info = types.SimpleNamespace(features={"image": image(), "mask": image()}, supervised_keys=None)
    monkeypatch.setattr(tfds, "_open_builder", lambda *_: types.SimpleNamespace(info=info))
    with pytest.raises(
        UserError, match="features are .*'mask': 'Image'}; name the feature of masks or boxes by data.label"
    ):
        load("anywhere", "pets")


def test_tfds(tfds_dir):
    dataset = datasets.load("mnist", data_dir=tfds_dir, splits={"train": "train[:300]", "test": "test[-20:]"})
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 300, "test": 20}
    split = dataset.split("train")
    batch = split.take(np.array([299, 0, 299]))
    assert batch["image"].shape == (3, 28, 28, 1)
    assert batch["image"].dtype == np.uint8
    np.testing.assert_array_equal(batch["image"][0], batch["image"][2])
    np.testing.assert_array_equal(split.labels(), split.take(np.arange(300))["label"])
    assert "tensorflow" not in sys.modules


def test_tfds_resizes(tfds_dir):
    dataset = datasets.load("cifar10", data_dir=tfds_dir, splits={"train": "train[:4]"}, size=16)
    assert dataset.split("train").take(np.arange(4))["image"].shape == (4, 16, 16, 3)
    grey = datasets.load("cifar10", data_dir=tfds_dir, splits={"train": "train[:4]"}, size=16, channels=1)
    assert grey.shape == grey.split("train").take(np.arange(4))["image"].shape[1:] == (16, 16, 1)
    with pytest.raises(UserError, match="data.channels=2 of images with 3"):
        datasets.load("cifar10", data_dir=tfds_dir, splits={"train": "train[:4]"}, channels=2)


def test_tfds_split_that_is_not_there(tfds_dir):
    with pytest.raises(UserError, match=r"no split 'trian'.*There are \{'train': 60000, 'test': 10000\}"):
        datasets.load("mnist", data_dir=tfds_dir, splits={"train": "trian"})


def test_tfds_reads_a_text_without_tensorflow(tfds_dir):
    dataset = datasets.load("tiny_shakespeare", data_dir=tfds_dir, length=128)
    assert {role: len(split.text) for role, split in dataset.splits.items()} == {
        "train": 1_003_854,
        "validation": 55_770,
        "test": 55_770,
    }
    first = dataset.split("train").take(np.array([0]))["tokens"][0]
    assert bytes(first[:14].astype(np.uint8)) == b"First Citizen:"
    assert "tensorflow" not in sys.modules
    with pytest.raises(UserError, match=r"no split 'tets'.*There are \{'train': 1, 'validation': 1, 'test': 1\}"):
        datasets.load("tiny_shakespeare", data_dir=tfds_dir, length=128, splits={"train": "tets"})


def test_texts_become_the_tokens_of_a_checkpoint(tiny_tfds_dir, tmp_path):
    folder = write_wordpiece(tmp_path / "tokenizer", words=(*WORDPIECE, "a", "first", "line"))
    dataset = load(tiny_tfds_dir, "tiny_pairs", tokenizer=folder, length=4, splits={"train": "train"})
    assert (dataset.class_names, dataset.vocabulary, dataset.shape) == (tiny_tfds.CLASSES, 18, (4,))
    assert dataset.tokenizer.startswith("WordPiece 18 ")
    rows = {tuple(row) for row in dataset.split("train").take(np.arange(2))["tokens"].tolist()}
    assert rows == {(2, 15, 16, 3), (2, 1, 15, 3)}
    dataset = load(tiny_tfds_dir, "tiny_text", tokenizer=folder, length=8, splits={"train": "train"})
    assert dataset.class_names == ()
    assert dataset.split("train").labels().tolist() == [-1, -1]
    for options, message in [
        ({"text": "texts"}, r"data.text must be one of the features.*Did you mean 'text'"),
        ({"label": "text"}, r"data.label must be one of the features of the kind ClassLabel, got 'text'.*\['label'\]"),
        ({"length": 0}, "data.length must be set for the texts of 'tiny_pairs'"),
    ]:
        with pytest.raises(UserError, match=message):
            load(tiny_tfds_dir, "tiny_pairs", tokenizer=folder, **({"length": 8} | options))


def test_real_texts(tfds_dir, tmp_path):
    folder = write_wordpiece(tmp_path)
    options = {"data_dir": tfds_dir, "tokenizer": folder, "length": 16}
    news = datasets.load("ag_news_subset", splits={"train": "train[:9]"}, **options)
    assert news.class_names == ("World", "Sports", "Business", "Sci/Tech")
    pairs = datasets.load("ag_news_subset", splits={"train": "train[:9]"}, text="title", pair="description", **options)
    assert pairs.split("train").take(np.arange(9))["segment"].max() == 1
    assert "segment" not in news.fields
    sentiment = datasets.load("sst2", **options)
    assert {*sentiment.splits} == {"train", "validation", "test"}
    assert "tensorflow" not in sys.modules


@pytest.fixture
def damaged(tmp_path):
    tiny_tfds.prepare(tmp_path)
    return str(tmp_path), next(tmp_path.glob("tiny_images/*/*train.array_record*"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:100] + bytes([content[100] ^ 255]) + content[101:],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
    ],
    ids=["a byte", "the second half", "all"],
)
def test_a_damaged_file_is_named_with_its_example(damaged, damage):
    folder, file = damaged
    file.write_bytes(damage(file.read_bytes()))
    split = load(folder, splits={"train": "train[:20]", "test": "test"}).split("train")
    message = (
        r"example 0 of the split 'train\[:20\]' of 'tiny_images' must be readable in .*tiny_images-train.array_record"
    )
    for read in (lambda: split.take(np.arange(3)), split.labels):
        with pytest.raises(UserError, match=f"{message}-00000-of-00001, got .* Restore that file, prepare"):
            read()


def dense(**options):
    """Returns settings of masks and boxes; 9 is void."""
    return DenseSettings(**{"void": (9,)} | options)


def test_masks(tiny_dense_dir):
    dataset = load(tiny_dense_dir, "tiny_dense", dense=dense(annotations="masks"))
    assert (dataset.class_names, dataset.shape) == (("0", "1", "2"), tiny_tfds.SHAPE)
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 4, "validation": 4}
    batch = dataset.split("train").take(np.arange(4))
    assert (batch["label_map"][:, 0] == -1).all()
    np.testing.assert_array_equal(batch["label_map"][:, 1:], batch["image"][:, 1:, :, 0])
    resized = load(tiny_dense_dir, "tiny_dense", size=4, dense=dense(annotations="masks", width=12, void=(1, 9)))
    assert (resized.class_names, resized.shape) == (("0", "2"), (4, 12, 1))
    assert {*np.unique(resized.split("train").take(np.arange(4))["label_map"])} == {-1, 0, 1}


def test_boxes(tiny_dense_dir):
    dataset = load(tiny_dense_dir, "tiny_dense", dense=dense(annotations="boxes"))
    assert dataset.class_names == ("a", "b")
    batch = dataset.split("train").take(np.arange(4))
    order = np.argsort((batch["box_label"] >= 0).sum(1))  # TFDS shuffles when it prepares
    np.testing.assert_array_equal(batch["box_label"][order], [[-1, -1, -1], [0, -1, -1], [0, 1, -1], [0, 1, 0]])
    np.testing.assert_array_equal(batch["box_crowd"][order], [[0, 0, 0]] * 3 + [[0, 0, 1]])
    np.testing.assert_array_equal(batch["boxes"][order[3]], [[0.25, 0, 1, 0.5]] * 3)
    assert load(tiny_dense_dir, "tiny_dense", label="objects").class_names == ("a", "b")
    splits = {"train": f"train[{order[0]}:{order[0] + 1}]"}
    of_none = load(tiny_dense_dir, "tiny_dense", splits=splits, dense=dense(annotations="boxes"))
    np.testing.assert_array_equal(of_none.split("train").take(np.arange(1))["box_label"], [[-1]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"data.annotations must be one of \['masks', 'boxes'\], the annotations of 'tiny_dense', got ''"),
        ({"dense": dense(annotations="boxes", boxes=2)}, "data.boxes must be at least 3, .* of example . of the split"),
        ({"dense": dense(annotations="masks", class_names=("a",), void=())}, "the mask of example .* got .*data.void"),
    ],
)
def test_wrong_annotations_are_refused(tiny_dense_dir, options, message):
    with pytest.raises(UserError, match=message):
        load(tiny_dense_dir, "tiny_dense", **options).split("train").take(np.arange(4))


@pytest.mark.skipif(not (SHARED / "tfds" / "camvid").is_dir(), reason="the prepared sets are not here")
def test_prepared_masks_and_boxes():
    masks = load(str(SHARED / "tfds"), "camvid", dense=DenseSettings(void=(11,)))
    assert (masks.classes, masks.shape) == (11, (180, 240, 3))
    label_map = masks.split("validation").take(np.arange(20))["label_map"]
    assert {*np.unique(label_map)} == {*range(-1, 11)}
    boxes = load(str(SHARED / "tfds"), "bccd", size=60, dense=DenseSettings(width=80))
    assert (boxes.class_names, boxes.shape) == (("RBC", "WBC", "Platelets"), (60, 80, 3))
    batch = boxes.split("test").take(np.arange(4))
    assert batch["boxes"].shape == (4, 30, 4)
    np.testing.assert_array_equal((batch["box_label"] >= 0).sum(1), [10, 12, 13, 2])
