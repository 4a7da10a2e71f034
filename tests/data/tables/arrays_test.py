"""Tables of `.npz` files and of folders with sparse matrices."""

import numpy as np
import pytest
from scipy import sparse

from jaxdistill.data import datasets
from jaxdistill.errors import UserError

ARRAYS = {
    "train_features": np.array([[1.0, np.nan], [3.0, 4.0], [5.0, 6.0]]),
    "train_label": np.array([0, 2, 1]),
    "test_features": np.array([[7, 8]]),
    "test_label": np.array([-1]),
}


def read(tmp_path, changes=(), **settings):
    np.savez(tmp_path / "table.npz", **{k: v for k, v in (ARRAYS | dict(changes)).items() if v is not None})
    return datasets.load("npz", path=str(tmp_path / "table.npz"), **{"transforms": ("impute:mean",)} | settings)


def test_features_and_labels_of_an_npz(tmp_path):
    dataset = read(tmp_path)
    batch = dataset.split("train").take(np.arange(3))
    np.testing.assert_allclose(batch["features"], [[1, 5], [3, 4], [5, 6]])
    assert batch["label"].tolist() == [0, 2, 1]
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.split("test").labels().tolist() == [-1]


def test_sparse_matrices_of_a_folder_stay_sparse(tmp_path):
    matrix = sparse.random(6, 40, 0.2, "coo", random_state=0)
    for role in ("train", "test"):
        sparse.save_npz(tmp_path / f"{role}_features.npz", matrix)
        np.save(tmp_path / f"{role}_target.npy", np.arange(6))
    dataset = datasets.load("npz", path=str(tmp_path))
    assert dataset.is_sparse
    assert dataset.shape == (40,)
    batch = dataset.split("test").take(np.arange(6))
    np.testing.assert_allclose(batch["features"], matrix.toarray(), rtol=1e-6)
    np.testing.assert_allclose(batch["target"].std(), 1, rtol=1e-6)
    (tmp_path / "test_features.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="test_features.npz must be a matrix of scipy.sparse.save_npz"):
        datasets.load("npz", path=str(tmp_path))
    (tmp_path / "train_features.npz").unlink()
    (tmp_path / "test_features.npz").unlink()
    with pytest.raises(UserError, match="must have train_features.npz, as scipy.sparse.save_npz writes it, got"):
        datasets.load("npz", path=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_label": None}, "must have one of train_label, train_labels and train_target"),
        ({"train_target": np.zeros(3)}, "must have one of train_label, train_labels and train_target"),
        ({"test_label": None}, r"must have a label for each of \['train', 'test'\], got none for \['test'\]"),
        ({"train_label": np.zeros(2, int)}, r"must have 'train_features' \[n, 2\] and 'train_label' \[n\], n > 0, got"),
        ({"test_features": np.zeros((1, 3))}, r"must have 'test_features' \[n, 2\] and 'test_label' \[n\]"),
        ({"train_features": np.full((3, 2), "a")}, "must have 'train_features' of numbers, got <U1"),
        ({"train_label": np.array([0.5, 1, 2])}, "must have 'train_label' of integers from 0 on, -1 if missing"),
        ({"test_label": np.array([7])}, "must have 'test_label' below 3, got 7"),
        ({"train_lable": np.zeros(3)}, "got 'train_lable'. Did you mean 'train_label'"),
        (
            {"train_label": None, "train_target": np.array(list("abc")), "test_label": None, "test_target": np.ones(1)},
            "must have 'train_target' of numbers, got <U1",
        ),
        (
            {"train_label": None, "train_target": np.array([1, -np.inf, 2]), "test_label": None, "test_target": [1.0]},
            "must have 'train_target' of finite numbers of float32, NaN if missing, got -inf in example 1",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, changes)


def test_names_of_columns_do_not_apply(tmp_path):
    with pytest.raises(UserError, match="data.label must be left out for .* are arrays of their own, got"):
        read(tmp_path, label="y")
