"""TFDS datasets from ArrayRecord files, without TensorFlow."""

import sys

import numpy as np
import pytest

import tiny_tfds
from jaxdistill.data import datasets, loader
from jaxdistill.errors import UserError
from jaxdistill.tasks.language_model import LanguageModel


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
        ("tiny_pairs", {}, "tiny_pairs is not an image classification set, nor a text.*an .npz with train_tokens"),
        ("tiny_imges", {}, "data.name must be a dataset, got 'tiny_imges'. Did you mean 'tiny_images'"),
    ],
    ids=str,
)
def test_mistakes(name, options, message, tiny_tfds_dir):
    with pytest.raises(UserError, match=message):
        load(tiny_tfds_dir, name, **options)
