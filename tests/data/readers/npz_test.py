"""Datasets of .npz files: images, and tokens."""

import numpy as np
import pytest

from jaxdistill.core import UNLABELLED
from jaxdistill.data import datasets
from jaxdistill.errors import UserError
from npz_files import image_arrays, token_arrays, write_images, write_tokens


def test_images(tmp_path):
    dataset = datasets.load("npz", path=write_images(tmp_path, class_names=np.array(["a", "b", "c", "d"])))
    assert (dataset.class_names, dataset.shape) == (("a", "b", "c", "d"), (5, 4, 3))
    batch = dataset.split("test").take(np.array([4, 0]))
    np.testing.assert_array_equal(batch["image"], image_arrays()["test_image"][[4, 0]])
    assert batch["label"].dtype == np.int32


def test_grey_floats(tmp_path):
    image = np.random.default_rng(0).random((6, 5, 4))
    dataset = datasets.load("npz", path=write_images(tmp_path, train_image=image, test_image=image))
    assert dataset.shape == (5, 4, 1)
    assert dataset.split("train").take(np.array([1]))["image"].dtype == np.float32


NAN = np.full((6, 5, 4, 3), 0.5)
NAN[3, 2, 1, 0] = np.nan


IMAGE_MISTAKES = [
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
    ({"train_image": np.array([{}] * 6)}, "must be an .npz of plain arrays"),
]


@pytest.mark.parametrize(("changed", "message"), IMAGE_MISTAKES, ids=lambda x: str(x)[:40])
def test_images_that_do_not_fit(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        datasets.load("npz", path=write_images(tmp_path, **changed))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"\x93NUMPY"])
def test_a_file_of_another_format(tmp_path, content):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(UserError, match="must be an .npz of plain arrays"):
        datasets.load("npz", path=str(tmp_path / "d.npz"))


def test_a_missing_file():
    with pytest.raises(UserError, match="data.path must be an .npz .*, got no file 'nowhere.npz'"):
        datasets.load("npz", path="nowhere.npz")


def test_tokens(tmp_path):
    dataset = datasets.load("npz", path=write_tokens(tmp_path))
    assert (dataset.classes, dataset.class_names, dataset.shape) == (3, ("0", "1", "2"), (5,))
    assert (dataset.vocabulary, dataset.of_bytes, next(iter(dataset.fields))) == (9, False, "tokens")
    batch, given = dataset.split("train").take(np.array([3, 1])), token_arrays()
    np.testing.assert_array_equal(batch["token_mask"], given["train_token_mask"][[3, 1]])
    np.testing.assert_array_equal(batch["tokens"], (given["train_tokens"] * given["train_token_mask"])[[3, 1]])
    assert {name: x.dtype.name for name, x in batch.items()} == dict.fromkeys(batch, "int32")


def test_tokens_alone_are_for_language_models(tmp_path):
    bare = {f"{role}_{kind}": None for role in ("train", "test") for kind in ("label", "token_mask")}
    dataset = datasets.load("npz", path=write_tokens(tmp_path, vocabulary=np.array(12), **bare))
    assert (dataset.classes, dataset.class_names, dataset.vocabulary) == (12, (), 12)
    assert dataset.split("test").take(np.arange(2)).keys() == {"tokens", "label"}
    assert set(dataset.split("test").labels()) == {UNLABELLED}


MINUS = np.full((6, 5), -1)


TOKEN_MISTAKES = [
    ({"train_label": None}, r"has a label for \['test'\] and not for the others of \['train', 'test'\]"),
    ({"test_token_mask": None}, r"has a token_mask for \['train'\]"),
    ({"train_image": np.zeros((6, 2, 2), np.uint8)}, "has images and tokens"),
    ({"train_tokens": np.ones((6, 5, 1), int)}, r"'train_tokens' has shape \(6, 5, 1\); expected \[n, length\]"),
    ({"train_tokens": np.ones((6, 4), int)}, r"'train_token_mask' has shape \(6, 5\) and the tokens \(6, 4\)"),
    ({"train_tokens": MINUS, "train_token_mask": np.ones((6, 5))}, "from -1 to -1; tokens are whole numbers from 0 on"),
    ({"train_tokens": np.ones((6, 5))}, "of float64; tokens are whole numbers"),
    ({"train_label": np.arange(5)}, r"'train_label' has shape \(5,\), and there are 6 texts"),
    ({"train_label": np.arange(6) - 1}, "labels are whole numbers from 0 on"),
    ({"test_label": np.array([0, 1, 2, 5])}, "'test_label' goes up to 5, and there are 3 classes"),
    ({"vocabulary": np.array(8)}, "vocabulary=8; it is one whole number, above the largest token 8"),
    ({"vocabulary": np.array([9])}, r"vocabulary=\[9\]; it is one whole number"),
    ({"test_tokens": np.ones((4, 3), int), "test_token_mask": np.ones((4, 3))}, "texts of different lengths"),
]


@pytest.mark.parametrize(("changed", "message"), TOKEN_MISTAKES, ids=lambda x: str(x)[:40])
def test_tokens_that_do_not_fit(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        datasets.load("npz", path=write_tokens(tmp_path, **changed))


def test_padding_may_have_any_value(tmp_path):
    given = token_arrays()
    tokens = np.where(given["train_token_mask"], given["train_tokens"], -100)
    batch = datasets.load("npz", path=write_tokens(tmp_path, train_tokens=tokens)).split("train").take(np.arange(6))
    np.testing.assert_array_equal(batch["tokens"], given["train_tokens"] * given["train_token_mask"])


def test_further_fields_of_tokens(tmp_path):
    shape = token_arrays()["train_tokens"].shape, token_arrays()["test_tokens"].shape
    roles = dict(zip(("train", "test"), shape, strict=True))
    given = {f"{role}_answer_mask": np.ones(of) for role, of in roles.items()}
    given |= {f"{role}_segment": np.zeros(of, int) for role, of in roles.items()}
    given |= {f"{role}_teacher_tokens": np.full((of[0], 3), 40) for role, of in roles.items()}
    dataset = datasets.load("npz", path=write_tokens(tmp_path, **given))
    assert {*dataset.splits} == {"train", "test"}
    assert {"answer_mask", "segment", "teacher_tokens"} < {*dataset.fields}
    assert dataset.fields["teacher_tokens"][0] == (3,)
    assert dataset.vocabulary == 9  # of the student's tokens
    targets = {f"{role}_targets": np.full(of, -1) for role, of in roles.items()}
    assert "targets" in datasets.load("npz", path=write_tokens(tmp_path, **targets)).fields
    with pytest.raises(UserError, match="'train_targets' is from -2 to -2; targets are whole numbers from -1 on"):
        datasets.load("npz", path=write_tokens(tmp_path, **targets | {"train_targets": np.full(shape[0], -2)}))
    with pytest.raises(UserError, match=r"has a answer_mask for \['train'\]|has a segment for \['train'\]"):
        datasets.load("npz", path=write_tokens(tmp_path, train_segment=np.zeros(shape[0], int)))


@pytest.mark.parametrize(
    ("name", "nearest"), [("train_attention_mask", "train_segment|train_token_mask"), ("train_lable", "train_label")]
)
def test_an_array_of_an_unknown_name_is_refused(name, nearest, tmp_path):
    with pytest.raises(UserError, match=f"must have arrays ROLE_FIELD .*, got '{name}'"):
        datasets.load("npz", path=write_tokens(tmp_path, **{name: np.ones((6, 5), int)}))


def test_channels_that_are_first_are_refused(tmp_path):
    for shape in ((3, 8, 8), (1, 6, 6)):
        np.savez(tmp_path / "d.npz", train_image=np.zeros((4, *shape), np.uint8), train_label=np.arange(4))
        with pytest.raises(UserError, match="must be .n, height, width, channels., got images of shape .*moveaxis"):
            datasets.load("npz", path=str(tmp_path / "d.npz"))


def test_a_stray_label_makes_no_class(tmp_path):
    label = np.append(np.arange(200) % 4, 99)
    arrays = {"train_image": np.zeros((201, 4, 4), np.uint8), "train_label": label}
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UserError, match=r"example of each class up to 99, got none of \[4, 5, 6, 7, 8\], 95 in all"):
        datasets.load("npz", path=str(tmp_path / "d.npz"))
    np.savez(tmp_path / "d.npz", **arrays, class_names=np.array([f"name {number}" for number in range(100)]))
    assert datasets.load("npz", path=str(tmp_path / "d.npz")).classes == 100


def test_images_of_a_folder_of_arrays_are_mapped(tmp_path):
    image = np.arange(10 * 4 * 4, dtype=np.uint8).reshape(10, 4, 4)
    for role in ("train", "test"):
        np.save(tmp_path / f"{role}_image.npy", image)
        np.save(tmp_path / f"{role}_label.npy", np.arange(10) % 2)
    dataset = datasets.load("npz", path=str(tmp_path))
    assert isinstance(dataset.split("train").image.base, np.memmap)
    taken = dataset.split("test").take(np.array([7, 2]))
    np.testing.assert_array_equal(taken["image"][..., 0], image[[7, 2]])
    np.testing.assert_array_equal(taken["label"], [1, 0])
    with pytest.raises(UserError, match="data.size and data.channels must be left out for .*, got 8 and 0"):
        datasets.load("npz", path=str(tmp_path), size=8)
    np.save(tmp_path / "test_image.npy", image / 255)
    with pytest.raises(UserError, match="test_image.npy must be uint8 to be mapped, got float64"):
        datasets.load("npz", path=str(tmp_path))
    (tmp_path / "test_image.npy").write_bytes(b"none")
    with pytest.raises(UserError, match="test_image.npy must be an array of np.save, got"):
        datasets.load("npz", path=str(tmp_path))
