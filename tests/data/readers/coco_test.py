"""JSON files in COCO's form with folders of images, and what is wrong with them."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxdistill.data import datasets
from jaxdistill.data.dataset import DenseSettings
from jaxdistill.data.readers import coco
from jaxdistill.errors import UserError

SPLITS = {"train": "annotations/instances_train.json", "test": "annotations/instances_test.json"}
OUTLINE = [[2, 0, 4, 0, 4, 4, 2, 4]]


def content(**changed):
    """Returns a file of two images, the first with two objects."""
    images = [{"id": 7 + i, "file_name": f"{i}.png", "height": 4, "width": 8} for i in range(2)]
    first = {"image_id": 7, "category_id": 9, "bbox": [2, 0, 2, 4], "segmentation": OUTLINE}
    second = {"image_id": 7, "category_id": 3, "bbox": [6, 1, 3, 1], "iscrowd": 1, "segmentation": [[6, 1, 8, 1, 8, 2]]}
    categories = [{"id": 9, "name": "b"}, {"id": 3, "name": "a"}]
    return {"images": images, "annotations": [first, second], "categories": categories} | changed


def write(folder, train=None, test=None):
    (folder / "annotations").mkdir(parents=True)
    for role in ("train", "test"):
        (folder / role).mkdir()
        for number in range(2):
            Image.fromarray(np.full((4, 8, 3), 50 * number, np.uint8)).save(folder / role / f"{number}.png")
        changed = {"train": train, "test": test}[role]
        raw = content() if changed is None else changed
        (folder / "annotations" / f"instances_{role}.json").write_text(json.dumps(raw))
    return str(folder)


def load(folder, train=None, splits=None, test=None, **options):
    annotations = options.pop("annotations", "boxes")
    dense = DenseSettings(annotations, boxes=options.pop("boxes", 0), void=options.pop("void", (255,)))
    return datasets.load("coco", path=write(folder, train, test), splits=splits or SPLITS, dense=dense, **options)


def test_boxes(tmp_path):
    dataset = load(tmp_path)
    assert (dataset.class_names, dataset.shape) == (("a", "b"), (4, 8, 3))
    batch = dataset.split("train").take(np.array([1, 0]))
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], [50, 0])
    np.testing.assert_array_equal(batch["box_label"], [[-1, -1], [1, 0]])
    np.testing.assert_array_equal(batch["box_crowd"], [[0, 0], [0, 1]])
    np.testing.assert_array_equal(batch["boxes"][1], [[0, 0.25, 1, 0.5], [0.25, 0.75, 0.5, 1]])


def test_masks_of_another_size(tmp_path):
    dataset = load(tmp_path, annotations="masks", size=4, channels=1)
    assert (dataset.class_names, dataset.shape) == (("background", "a", "b"), (4, 4, 1))
    label_map = dataset.split("test").take(np.arange(2))["label_map"]
    np.testing.assert_array_equal(label_map[0], [[0, 2, 0, 0], [0, 2, 0, -1], [0, 2, 0, 0], [0, 2, 0, 0]])
    assert not label_map[1].any()


def test_the_form_of_images_without_objects(tmp_path):
    dataset = load(tmp_path, content(annotations=[]), test=content(annotations=[]))
    np.testing.assert_array_equal(dataset.split("train").take(np.arange(2))["box_label"], [[-1], [-1]])


def test_no_value_of_iscrowd_is_no_crowd(tmp_path):
    dataset = load(tmp_path, content(annotations=[OBJECT | {"iscrowd": None}]))
    np.testing.assert_array_equal(dataset.split("train").take(np.arange(1))["box_crowd"], [[0, 0]])


OBJECT = content()["annotations"][0]
NO_OUTLINE = {key: value for key, value in OBJECT.items() if key != "segmentation"}


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (
            content(images=[*content()["images"], dict(content()["images"][0], id=1, file_name="c.png")]),
            {},
            "c.png, whi",
        ),
        (
            content(annotations=[OBJECT | {"image_id": 1}]),
            {},
            r"annotations\[0\] of .* one of its 2 images, got image_id 1",
        ),
        (
            content(annotations=[OBJECT | {"category_id": 1}]),
            {},
            r"a category of the training file, \[3, 9\], got categor",
        ),
        (
            content(annotations=[OBJECT | {"bbox": [1, 2]}]),
            {},
            r"must have a bbox \[left, top, width, height\], got \[1, 2",
        ),
        (content(annotations=[OBJECT | {"bbox": ["a", 0, 2, 2]}]), {}, r"must have a bbox \[left, .* got \['a', 0"),
        (content(annotations=[OBJECT | {"iscrowd": 2}]), {}, r"annotations\[0\] of .* must have iscrowd 0 or 1, got 2"),
        (
            content(images=[content()["images"][0]] * 2),
            {},
            r"images of .*instances_train.json must have an id each, got \[7\] twice",
        ),
        (
            content(categories=[*content()["categories"], {"id": 3, "name": "c"}]),
            {},
            r"categories of .*instances_train.json must have an id each, got \[3\] twice",
        ),
        (
            None,
            {"test": content(categories=[{"id": 9, "name": "a"}, {"id": 3, "name": "a"}])},
            r"category 9 of .*instances_test.json must be 'b', as in the training file, got 'a'",
        ),
        (
            None,
            {"test": content(annotations=[NO_OUTLINE]), "annotations": "masks"},
            r"data.annotations must be one of \['boxes'\], the annotations of 'coco', got 'masks'",
        ),
        (None, {"void": (0,), "annotations": "masks"}, r"data.void must be \(255,\) for 'coco', whose .* got \(0,\)"),
        (content(annotations=[OBJECT | {"bbox": [20, 0, 2, 2]}]), {}, "box 0 of .*0.png must have a part in the image"),
        (content(annotations=[OBJECT | {"bbox": [4, 0, -2, 2]}]), {}, "top and left before bottom and right"),
        (content(categories=[]), {}, "must have a list 'categories', as COCO's form has"),
        (
            content(images=[{"id": 1}]),
            {},
            r"images\[0\] of .* must have .*, got none of \['file_name', 'height', 'width'\]",
        ),
        ([], {}, "must have a list 'images'"),
        (content(images=[dict(entry, height=5) for entry in content()["images"]]), {"size": 4}, "must be 5 x 8 pixels"),
        (None, {"boxes": 1}, "data.boxes must be at least 2, the number of boxes of .*0.png, got 1"),
        (None, {"splits": {"train": "train.json"}}, "train.json must be a JSON file of COCO's form, got no file"),
        (None, {"splits": {"test": "test.json"}}, "data.splits must name the JSON files of 'coco'"),
        (None, {"channels": 2}, r"data.channels must be one of \[1, 3, 4\], got 2"),
    ],
)
def test_mistakes(tmp_path, train, options, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, train, **options).split("train").take(np.arange(2))


def test_files_that_are_damaged(tmp_path):
    dataset = load(tmp_path)
    (tmp_path / "train" / "0.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"0.png must be an image, got UnidentifiedImageError"):
        dataset.split("train").take(np.arange(1))
    (tmp_path / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(UserError, match="instances_train.json must be a JSON file of COCO's form, got Expecting"):
        coco.read(datasets.DatasetSettings("coco", path=str(tmp_path), splits=tuple(SPLITS.items())))
