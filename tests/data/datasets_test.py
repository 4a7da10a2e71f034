"""Datasets: the embedded digits, `.npz` files, TFDS without TensorFlow, and what is said when they are not there."""

import hashlib
import sys

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.data.dataset import NoiseSettings
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


def arrays(rows=6, **changed):
    rng = np.random.default_rng(0)
    made = {}
    for role in ("train", "test"):
        made[f"{role}_image"] = rng.integers(0, 256, (rows, 5, 4, 3), np.uint8)
        made[f"{role}_label"] = np.arange(rows) % 3
    return made | changed


def written(folder, **changed):
    path = folder / "data.npz"
    np.savez(path, **{k: v for k, v in arrays(**changed).items() if v is not None})
    return str(path)


def test_npz(tmp_path):
    dataset = datasets.load("npz", path=written(tmp_path, class_names=np.array(["a", "b", "c", "d"])))
    assert (dataset.class_names, dataset.shape) == (("a", "b", "c", "d"), (5, 4, 3))
    batch = dataset.split("test").take(np.array([4, 0]))
    np.testing.assert_array_equal(batch["image"], arrays()["test_image"][[4, 0]])
    assert batch["label"].dtype == np.int32


def test_npz_of_grey_floats(tmp_path):
    image = np.random.default_rng(0).random((6, 5, 4))
    dataset = datasets.load("npz", path=written(tmp_path, train_image=image, test_image=image))
    assert dataset.shape == (5, 4, 1)
    assert dataset.split("train").take(np.array([1]))["image"].dtype == np.float32


NAN = np.full((6, 5, 4, 3), 0.5)
NAN[3, 2, 1, 0] = np.nan
BAD = [
    ({"train_label": None}, "'train_image' and no 'train_label'"),
    ({"train_image": None}, "no array 'train_image'"),
    ({"train_label": np.arange(6) - 1}, "from -1 to 4"),
    ({"train_label": np.linspace(0, 1, 6)}, "whole numbers"),
    ({"train_label": np.arange(5)}, r"\(6, 5, 4, 3\) and 'train_label' \(5,\)"),
    ({"train_image": NAN}, "not finite in 1 of 6 examples, the first at index 3"),
    ({"train_image": np.zeros((6, 5, 4, 3), np.int64)}, "is int64"),
    ({"train_image": np.full((6, 5, 4, 3), 200.0)}, r"is from 200.0 to 200.0; floats are in \[0, 1\]"),
    ({"train_label": np.array(["a"] * 6)}, "whole numbers"),
    ({"train_label": np.array([0, 1, 2, 0, 1, 3000])}, "goes up to 3000 in 6 examples"),
    ({"test_label": np.array([0, 1, 2, 0, 1, 5])}, "'test_label' goes up to 5, and there are 3 classes"),
    ({"class_names": np.array("a")}, "it is a list of names"),
    ({"train_image": np.zeros((6, 5, 4, 0), np.uint8)}, "expected"),
    ({"test_image": np.zeros((6, 5, 5, 3), np.uint8)}, "different shapes"),
    ({"class_names": np.array(["a"])}, "goes up to 2, and there are 1 classes"),
    ({"train_image": np.array([{}] * 6)}, "not an .npz of plain arrays"),
]


@pytest.mark.parametrize(("changed", "message"), BAD, ids=lambda x: str(x)[:40])
def test_bad_npz(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        datasets.load("npz", path=written(tmp_path, **changed))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"\x93NUMPY"])
def test_a_file_that_is_no_npz(tmp_path, content):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(UserError, match="is not an .npz of plain arrays"):
        datasets.load("npz", path=str(tmp_path / "d.npz"))


def test_splits_of_a_set_that_has_its_own():
    with pytest.raises(UserError, match="data.splits must be left out for 'digits', which has its own"):
        datasets.load("digits", splits={"train": "train[:10]"})


def test_embedded_sets_of_another_size_and_colour(tmp_path):
    dataset = datasets.load("digits", size=28, channels=3)
    assert dataset.shape == (28, 28, 3)
    for role in ("train", "validation", "test"):
        assert dataset.split(role).take(np.arange(2))["image"].shape == (2, 28, 28, 3)
    stored = datasets.load("digits").split("test").take(np.arange(40))["image"]
    image = dataset.split("test").take(np.arange(40))["image"]
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.mean((1, 2, 3)), stored.mean((1, 2, 3)), atol=6)  # the same scans
    grey = datasets.load("npz", path=written(tmp_path), size=4, channels=1)
    assert grey.shape == (4, 4, 1)
    with pytest.raises(UserError, match="data.channels=2 of images with 3"):
        datasets.load("npz", path=written(tmp_path), channels=2)


def test_noise_by_name_must_be_told_what_it_cannot_know():
    noise = NoiseSettings(count=20, classes=3)
    dataset = datasets.load("noise", size=4, channels=1, noise=noise)
    assert (dataset.shape, dataset.classes, {*dataset.splits}) == ((4, 4, 1), 3, {"train"})
    for missing in (dict(size=0), dict(channels=0)):
        with pytest.raises(UserError, match=f"Set data.{next(iter(missing))} to the teacher's"):
            datasets.load("noise", **{"size": 4, "channels": 1, **missing}, noise=noise)
    with pytest.raises(UserError, match="Set data.noise.classes to the teacher's, or mix noise into"):
        datasets.load("noise", size=4, channels=1, noise=NoiseSettings(count=20))


def test_missing_npz():
    with pytest.raises(UserError, match="data.path must be an .npz .*, got no file 'nowhere.npz'"):
        datasets.load("npz", path="nowhere.npz")


def test_unknown_dataset_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="data.name must be a dataset, got 'cifr10'. Did you mean 'cifar10'"):
        datasets.load("cifr10", data_dir=str(tmp_path))


def test_dataset_that_is_not_prepared_says_how(tmp_path):
    with pytest.raises(UserError, match=r"mnist is not prepared in .*download_and_prepare.*--config.data.data_dir"):
        datasets.load("mnist", data_dir=str(tmp_path))


def test_missing_data_dir():
    with pytest.raises(UserError, match="no folder '/nowhere'"):
        datasets.load("mnist", data_dir="/nowhere")


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


def test_tfds_of_another_task(tfds_dir):
    with pytest.raises(UserError, match="not an image classification set"):
        datasets.load("camvid", data_dir=tfds_dir)


def test_role_that_is_not_there():
    with pytest.raises(UserError, match="split must be an existing name, got 'tset'. Did you mean 'test'"):
        datasets.load("digits").split("tset")
