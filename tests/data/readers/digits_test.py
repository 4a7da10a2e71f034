"""The digits of scikit-learn."""

import hashlib

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.errors import UserError


def test_digits_are_split_once_and_for_all():
    dataset = datasets.load("digits")
    assert {role: len(split) for role, split in dataset.splits.items()} == {
        "train": 1077,
        "validation": 360,
        "test": 360,
    }
    assert (dataset.classes, dataset.shape) == (10, (8, 8, 1))
    images = np.concatenate([split.take(np.arange(len(split)))["image"] for split in dataset.splits.values()])
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797  # the splits are disjoint
    digest = hashlib.sha256(dataset.split("test").take(np.arange(360))["image"].tobytes()).hexdigest()
    assert digest[:16] == "dd2fbba1fda39fbe"  # the same on every machine and version


def test_a_folder_of_tfds_is_none_of_another_set():
    with pytest.raises(UserError, match="data.data_dir must be left out for 'digits', got '/data'. It is the folder"):
        datasets.load("digits", data_dir="/data")


def test_splits_of_a_set_that_has_its_own():
    with pytest.raises(UserError, match="data.splits must be left out for 'digits', which has its own"):
        datasets.load("digits", splits={"train": "train[:10]"})
