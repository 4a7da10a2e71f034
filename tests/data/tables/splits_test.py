"""Splits of features: standardised targets, missing ones, and sparse rows that become dense in a batch."""

import numpy as np
import pytest
from scipy import sparse

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.tables import Table, make_dataset
from jaxdistill.errors import UserError


def make_table(rows, **answers):
    return Table(np.asarray(rows, np.float64), ("a", "b"), **answers)


TRAIN = make_table([[1, 2], [3, 6]], label=np.array([0, 1]))


def test_targets_are_standardised_by_the_training_split_and_missing_ones_have_no_label():
    train = make_table([[1, 2], [3, 4]], target=np.array([10.0, 14.0]))
    test = make_table([[5, 6], [7, 8]], target=np.array([16.0, np.nan]))
    dataset = make_dataset({"train": train, "test": test}, DatasetSettings("t"))
    batch = dataset.split("test").take(np.arange(2))
    np.testing.assert_allclose(batch["target"], [[2], [0]])
    assert batch["label"].tolist() == [0, UNLABELLED]
    assert batch["target"].dtype == np.float32
    assert dataset.class_names == ("0",)
    assert dataset.shape == (2,)


def test_transforms_are_fitted_on_the_training_split_alone():
    test = make_table([[100, 200]], label=np.array([1]))
    dataset = make_dataset({"train": TRAIN, "test": test}, DatasetSettings("t", transforms=("standardize",)), "xy")
    np.testing.assert_allclose(dataset.split("test").take(np.arange(1))["features"], [[98, 98]])


def test_a_stored_featurizer_is_applied_and_excludes_other_transforms(tmp_path):
    dataset = make_dataset({"train": TRAIN}, DatasetSettings("t", transforms=("standardize",)), "xy")
    dataset.featurizer.save(tmp_path / "featurizer.npz")
    new = make_table([[5, 10]], label=np.array([1]))
    stored = make_dataset({"train": new}, DatasetSettings("t", featurizer=str(tmp_path)), "xy")
    np.testing.assert_allclose(stored.split("train").take(np.arange(1))["features"], [[3, 3]])
    with pytest.raises(UserError, match="data.transforms must be left out beside data.featurizer, got"):
        make_dataset({"train": new}, DatasetSettings("t", featurizer=str(tmp_path), transforms=("pca:1",)), "xy")


def test_sparse_features_stay_sparse_until_they_are_taken():
    matrix = sparse.random(50, 2000, 0.01, "csr", random_state=0)
    table = Table(matrix, tuple(map(str, range(2000))), label=np.zeros(50, np.int32))
    dataset = make_dataset({"train": table}, DatasetSettings("t"), "xy")
    split = dataset.split("train")
    assert sparse.issparse(split.features)
    assert dataset.is_sparse
    assert dataset.example_bytes == 8000
    batch = split.take(np.array([7, 3]))
    assert isinstance(batch["features"], np.ndarray)
    assert batch["features"].dtype == np.float32
    np.testing.assert_allclose(batch["features"], matrix[[7, 3]].toarray(), rtol=1e-6)


def test_images_have_no_part_in_a_table():
    with pytest.raises(UserError, match="data.size, data.channels and data.length must be left out for 't'"):
        make_dataset({"train": TRAIN}, DatasetSettings("t", size=8), "xy")
