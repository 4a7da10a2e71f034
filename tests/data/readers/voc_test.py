"""Folders in the form of PASCAL VOC, and what is wrong with them."""

import numpy as np
import pytest
from PIL import Image

from jaxdistill.data import datasets
from jaxdistill.data.dataset import DenseSettings
from jaxdistill.errors import UserError

BOX = "<bndbox><xmin>3</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
OBJECTS = f"<object><name>dog</name>{BOX}</object><object><name>cat</name><difficult> 1 </difficult>{BOX}</object>"


def write(folder, objects=OBJECTS, mask=None):
    """Writes two images of a training list and one of `val`; the second has no objects."""
    for name in ("Annotations", "JPEGImages", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    mask = np.array([[0, 0, 1, 1, 2, 2, 255, 255]] * 4, np.uint8) if mask is None else mask
    for name in ("a", "b", "c"):
        Image.fromarray(np.full((4, 8), 10, np.uint8)).save(folder / "JPEGImages" / f"{name}.png")
        drawn = Image.fromarray(mask)
        if mask.ndim == 2:
            drawn.putpalette([*range(256)] * 3)
        drawn.save(folder / "SegmentationClass" / f"{name}.png")
        inner = "" if name == "b" else objects
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{inner}</annotation>")
    for kind in ("Main", "Segmentation"):
        (folder / "ImageSets" / kind / "train.txt").write_text("a\nb 1\n")
        (folder / "ImageSets" / kind / "val.txt").write_text("c\n")
    return str(folder)


def load(folder, annotations, changed=None, **options):
    path = write(folder, **(changed or {}))
    dense = DenseSettings(annotations, class_names=options.pop("class_names", ()), void=options.pop("void", (255,)))
    return datasets.load("voc", path=path, dense=dense, **options)


def test_boxes(tmp_path):
    dataset = load(tmp_path, "boxes")
    assert (dataset.class_names, dataset.shape) == (("cat", "dog"), (4, 8, 3))
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 2, "validation": 1}
    batch = dataset.split("train").take(np.arange(2))
    np.testing.assert_array_equal(batch["box_label"], [[1, 0], [-1, -1]])
    np.testing.assert_array_equal(batch["box_crowd"], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(batch["boxes"][0], [[0, 0.25, 1, 0.5]] * 2)  # pixels 3 and 4 of 8


def test_images_without_objects_have_one_row(tmp_path):
    dataset = load(tmp_path, "boxes", {"objects": ""}, class_names=("cat",))
    np.testing.assert_array_equal(dataset.split("train").take(np.arange(1))["box_label"], [[-1]])


def test_the_training_list_has_a_default(tmp_path):
    dataset = load(tmp_path, "boxes", splits={"validation": "val"})
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 2, "validation": 1}


def test_masks(tmp_path):
    dataset = load(tmp_path, "masks", channels=1)
    assert (dataset.class_names, dataset.shape) == (("0", "1", "2"), (4, 8, 1))
    batch = dataset.split("validation").take(np.arange(1))
    np.testing.assert_array_equal(batch["label_map"], [[[0, 0, 1, 1, 2, 2, -1, -1]] * 4])


@pytest.mark.parametrize(
    ("annotations", "changed", "options", "message"),
    [
        ("", {}, {}, r"data.annotations must be one of \['masks', 'boxes'\]"),
        ("boxes", {}, {"splits": {"train": "trian"}}, "data.splits.train must be a list in .* Did you mean 'train'"),
        (
            "boxes",
            {},
            {"class_names": ("cat", "dig")},
            "must be a class of the training files, got 'dog'. Did you mean",
        ),
        (
            "boxes",
            {"objects": "<object><name>a</name></object>"},
            {},
            "a.xml must have objects with a name and a bndbox",
        ),
        ("boxes", {"objects": "<object>"}, {}, "a.xml must have objects with"),
        (
            "masks",
            {},
            {"class_names": ("a", "b")},
            r"values of the 2 classes, 0 to 1, or of data.void=\(255,\), got \[2\]",
        ),
        ("masks", {"mask": np.zeros((4, 8, 3), np.uint8)}, {}, "must be a mask with one value per pixel, got an image"),
        ("masks", {"mask": np.zeros((3, 8), np.uint8)}, {}, r"must be as its image, 4 x 8, .* got \[3, 8\]"),
    ],
)
def test_mistakes(tmp_path, annotations, changed, options, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, annotations, changed, **options).split("train").take(np.arange(2))


def test_missing_files_are_refused(tmp_path):
    folder = write(tmp_path)
    (tmp_path / "Annotations" / "a.xml").unlink()
    with pytest.raises(
        UserError, match=r"a.xml, which the list of 'train' of .* names, must be a file, got none; 1 in"
    ):
        datasets.load("voc", path=folder, dense=DenseSettings("boxes"))
    with pytest.raises(UserError, match="data.path must be a folder with .*'SegmentationClass'.* for 'voc', got"):
        datasets.load("voc", path=str(tmp_path / "Annotations"))
