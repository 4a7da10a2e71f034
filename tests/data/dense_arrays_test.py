"""Images with masks or boxes in an .npz."""

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.data.dataset import DenseSettings
from jaxdistill.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
LABEL_MAP = np.tile(np.array([0, 0, 1, 1, -1, 7]), (3, 4, 1))
BOXES = np.tile(np.array([[0.0, 0.5, 1.5, 1.0], [0, 0, 0, 0]]), (3, 1, 1))
BOX_LABEL = np.tile(np.array([1, -1]), (3, 1))


def load(folder, size=0, annotations="", **changed):
    arrays = {"train_image": IMAGE, "test_image": IMAGE}
    for role in ("train", "test"):
        arrays |= {f"{role}_label_map": LABEL_MAP, f"{role}_boxes": BOXES, f"{role}_box_label": BOX_LABEL}
    arrays = {name: array for name, array in (arrays | changed).items() if array is not None}
    np.savez(folder / "dense.npz", **arrays)
    dense = DenseSettings(annotations, void=(7,))
    return datasets.load("npz", path=str(folder / "dense.npz"), size=size, dense=dense)


def test_masks(tmp_path):
    dataset = load(tmp_path, annotations="masks")
    assert (dataset.class_names, dataset.shape) == (("0", "1"), (4, 6, 3))
    batch = dataset.split("test").take(np.array([2, 0]))
    np.testing.assert_array_equal(batch["image"], IMAGE[[2, 0]])
    np.testing.assert_array_equal(batch["label_map"], np.tile([0, 0, 1, 1, -1, -1], (2, 4, 1)))
    named = load(tmp_path, annotations="masks", size=2, class_names=np.array(["a", "b", "c"]))
    assert (named.class_names, named.split("train").take(np.arange(1))["label_map"].shape) == (
        ("a", "b", "c"),
        (1, 2, 2),
    )


def test_boxes(tmp_path):
    dataset = load(tmp_path, train_label_map=None, test_label_map=None)
    assert dataset.class_names == ("0", "1")
    batch = dataset.split("train").take(np.arange(1))
    np.testing.assert_array_equal(batch["boxes"], [[[0, 0.5, 1, 1], [0, 0, 0, 0]]])
    np.testing.assert_array_equal(batch["box_label"], [[1, -1]])


def test_images_without_boxes_have_one_row(tmp_path):
    none = {
        f"{role}_{field}": array[:, :0]
        for role in ("train", "test")
        for field, array in {"boxes": BOXES, "box_label": BOX_LABEL}.items()
    }
    batch = load(tmp_path, annotations="boxes", class_names=np.array(["a"]), **none).split("train").take(np.arange(1))
    np.testing.assert_array_equal(batch["box_label"], [[-1]])


@pytest.mark.parametrize(
    ("annotations", "changed", "message"),
    [
        ("", {}, r"data.annotations must be one of \['masks', 'boxes'\]"),
        ("masks", {"test_label_map": None}, r"must have the arrays \['test_label_map'\]"),
        (
            "masks",
            {"train_label_map": LABEL_MAP[:2]},
            r"'train_label_map' of .* must be integers \[3, 4, 6\], got .* \[2,",
        ),
        ("masks", {"train_label_map": LABEL_MAP[:, :2]}, "the mask of example 0 of 'train' of .* must be as its image"),
        ("masks", {"train_label_map": LABEL_MAP / 2}, "must be integers"),
        ("masks", {"train_label_map": LABEL_MAP - 1}, "the mask of example 0 of 'train'"),
        ("boxes", {"train_boxes": BOXES[..., :3]}, r"must be numbers \[3, 2, 4\]"),
        ("boxes", {"train_box_label": BOX_LABEL[:, :1]}, r"must be integers \[3, 2\]"),
        ("boxes", {"train_boxes": 100 * BOXES}, "box 0 of example 0 of 'train' of .* must have a part in the image"),
        ("masks", {"train_image": IMAGE[0, 0]}, r"has shape \(6, 3\); expected \[n, height"),
        ("masks", {"train_lable_map": LABEL_MAP}, "Did you mean 'train_label_map'"),
    ],
)
def test_mistakes(tmp_path, annotations, changed, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, annotations=annotations, **changed).split("train").take(np.arange(1))
