"""Several labels and numbers in arrays: of images, texts and tables, missing ones, names, and mistakes."""

import numpy as np
import pytest

from jaxdistill import tasks
from jaxdistill.data import datasets
from jaxdistill.errors import UserError

LABELS = np.array([[1, 0, 1], [0, -1, 1], [-1, -1, -1], [0, 0, 0]])
TARGETS = np.array([[1.0, 10.0], [3.0, np.nan], [np.nan, np.nan], [5.0, 30.0]])
FORMS = {
    "image": np.arange(4 * 4 * 4, dtype=np.uint8).reshape(4, 4, 4),
    "tokens": np.arange(12).reshape(4, 3),
    "features": np.arange(8.0).reshape(4, 2),
}


def load(path, form, field, array, **more):
    """Reads an `.npz` whose splits are the same four examples."""
    options = {name: more.pop(name) for name in ("size", "label", "columns") if name in more}
    arrays = {f"{role}_{name}": x for role in ("train", "test") for name, x in ((form, FORMS[form]), (field, array))}
    np.savez(path / "a.npz", **{name: x for name, x in (arrays | more).items() if x is not None})
    return datasets.load("npz", path=str(path / "a.npz"), **options)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.int8, np.float64])
def test_labels(tmp_path, form, dtype):
    names = np.array(["a", "b", "c"])
    dataset = load(tmp_path, form, "labels", LABELS.astype(dtype), class_names=names)
    batch = dataset.split("test").take(np.array([2, 1, 3]))
    np.testing.assert_array_equal(batch["labels"], [[np.nan] * 3, [0, np.nan, 1], [0, 0, 0]])
    assert (batch["labels"].dtype, batch["label"].tolist()) == (np.float32, [-1, 0, 0])
    assert dataset.split("test").labels().tolist() == [0, 0, -1, 0]
    assert dataset.class_names == ("a", "b", "c")
    assert tasks.find(dataset).__name__ == "MultiLabel"
    assert load(tmp_path, form, "labels", LABELS > 0).class_names == ("0", "1", "2")


@pytest.mark.parametrize("form", FORMS)
def test_targets(tmp_path, form):
    """Each is standardised by the training split's numbers that are present."""
    dataset = load(tmp_path, form, "target", TARGETS, target_names=np.array(["age", "weight"]))
    assert [target.name for target in dataset.targets] == ["age", "weight"]
    batch = dataset.split("test").take(np.arange(4))
    means, scales = np.nanmean(TARGETS, 0), np.nanstd(TARGETS, 0)
    np.testing.assert_allclose(batch["target"], (TARGETS - means) / scales, rtol=1e-6)
    np.testing.assert_allclose([(x.mean, x.scale) for x in dataset.targets], np.stack([means, scales], 1))
    assert (batch["target"].dtype, batch["label"].tolist()) == (np.float32, [0, 0, -1, 0])
    assert tasks.find(dataset).__name__ == "Regression"
    one = load(tmp_path, form, "target", TARGETS[:, 0])
    assert one.split("train").take(np.arange(4))["target"].shape == (4, 1)
    assert [target.name for target in one.targets] == ["target"]


def test_resized_images_keep_them(tmp_path):
    batch = load(tmp_path, "image", "target", TARGETS, size=2).split("train").take(np.arange(4))
    assert batch["image"].shape == (4, 2, 2, 1)
    np.testing.assert_allclose(batch["target"][:, 1], [-1, np.nan, np.nan, 1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("field", "array", "more", "message"),
    [
        ("labels", LABELS[:, :1], {}, r"'train_labels' \[4, classes\] of at least two classes, got \[4, 1\]"),
        ("labels", LABELS + 1, {}, "'train_labels' of 0 and 1, -1 or NaN if missing, got 2 in example 0"),
        ("labels", LABELS.astype(str), {}, "'train_labels' of 0 and 1, got <U21"),
        ("labels", LABELS, {"class_names": np.array(["a", "a", "b"])}, "'class_names' with 3 different names, got"),
        ("labels", LABELS, {"test_labels": LABELS[:, :2]}, "equal numbers of columns in all splits, got"),
        ("labels", LABELS, {"test_labels": None}, r"must have a labels for each of \['train', 'test'\], got none for"),
        (
            "labels",
            LABELS,
            {"train_label": np.arange(4)},
            "must have one of train_label, train_labels and train_target",
        ),
        ("target", TARGETS.astype(str), {}, "'train_target' of numbers, got <U32"),
        ("target", TARGETS * 1e38, {}, "'train_target' of finite numbers of float32, .* got 1e.39 in example 0"),
        ("target", TARGETS, {"target_names": np.array(["a"])}, "'target_names' with 2 different names, got"),
        (
            "target",
            TARGETS[2:3].repeat(4, 0),
            {},
            "must (have|be columns with) numbers in the training split, got none",
        ),
    ],
)
def test_mistakes(tmp_path, form, field, array, more, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, form, field, array, **more)


def test_names_of_columns_do_not_apply(tmp_path):
    with pytest.raises(UserError, match=r"data.columns must be left out for .*, got \('a',\)"):
        load(tmp_path, "features", "labels", LABELS, columns=("a",))
