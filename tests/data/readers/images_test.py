"""Images of folders, of tables and of `save_to_disk`: classes, splits, sizes and mistakes."""

import io

import numpy as np
import pytest
from PIL import Image

import saved_datasets
from jaxdistill.conformance.datasets import PROMISES, make_subject
from jaxdistill.conformance.promise import NotApplicable
from jaxdistill.data import datasets
from jaxdistill.data.readers import images
from jaxdistill.errors import UserError

CLASSES = ("cat", "dog")


def draw(number, size=(6, 8)):
    """Returns an image whose pixels are its number."""
    return Image.fromarray(np.full((*size, 3), number, np.uint8))


def write_folder(folder, count=10, size=(6, 8)):
    """Writes `CLASS/FILE`: images of even numbers are cats."""
    for number in range(count):
        path = folder / CLASSES[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(number, size).save(path)


def encode(number):
    buffer = io.BytesIO()
    draw(number).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{number}.png"}


def write(tmp_path, kind):
    """Writes ten images in a form; returns `data.path`."""
    if kind == "saved":
        columns = {"image": [encode(number) for number in range(10)], "label": [number % 2 for number in range(10)]}
        saved_datasets.save(tmp_path / "saved", columns, {"label": {"names": CLASSES, "_type": "ClassLabel"}})
        return str(tmp_path / "saved")
    write_folder(tmp_path / "all")
    if kind == "folder":
        return str(tmp_path / "all")
    lines = [f"{CLASSES[number % 2]}/{number:02}.png,{CLASSES[number % 2]}" for number in range(10)]
    for name, part in (("a", lines[:5]), ("b", lines[5:])):
        (tmp_path / "all" / f"list-{name}.csv").write_text("\n".join(["file,label", *part]))
    return str(tmp_path / "all" / "list-*.csv")


@pytest.mark.parametrize("kind", ["folder", "table", "saved"])
def test_each_form_has_the_same_images_in_parts_by_chance(tmp_path, kind):
    path = write(tmp_path, kind)
    dataset = datasets.load("images", path=path)
    assert dataset.class_names == CLASSES
    assert dataset.shape == (6, 8, 3)
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 8, "validation": 1, "test": 1}
    taken = [split.take(np.arange(len(split))) for split in dataset.splits.values()]
    numbers = np.concatenate([part["image"][:, 0, 0, 0] for part in taken])
    np.testing.assert_array_equal(np.sort(numbers), np.arange(10))
    np.testing.assert_array_equal(np.concatenate([part["label"] for part in taken]), numbers % 2)
    assert [*numbers] != sorted(numbers)
    subject = make_subject(images.read, path=path)
    for promise in PROMISES:
        try:
            promise.check(subject)
        except NotApplicable:
            continue


def test_folders_of_splits_and_images_of_several_sizes(tmp_path):
    write_folder(tmp_path / "train", 10)
    write_folder(tmp_path / "val", 4, size=(9, 7))
    dataset = datasets.load("images", path=str(tmp_path), size=4, channels=1)
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 10, "validation": 4}
    assert dataset.shape == (4, 4, 1)
    validation = dataset.split("validation").take(np.arange(4))
    assert validation["image"].shape == (4, 4, 4, 1)
    np.testing.assert_array_equal(validation["image"][:, 0, 0, 0] % 2, validation["label"])
    with pytest.raises(
        UserError, match=r"val/.*png must be of shape \[6, 8, 3\], as the first image is, got \[9, 7, 3\]"
    ):
        datasets.load("images", path=str(tmp_path)).split("validation").take(np.arange(4))
    parts = {"train": "train[:50%]", "validation": "train[50%:]", "test": "val"}
    dataset = datasets.load("images", path=str(tmp_path), size=4, splits=parts)
    assert [len(split) for split in dataset.splits.values()] == [5, 5, 4]


def test_folders_of_splits_have_names_in_any_case_and_no_images_beside_classes(tmp_path):
    for name, count in (("train", 4), ("Validation", 2), ("TEST", 2)):
        write_folder(tmp_path / name, count)
    dataset = datasets.load("images", path=str(tmp_path))
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 4, "validation": 2, "test": 2}
    draw(1).save(tmp_path / "TEST" / "stray.PNG", "PNG")
    with pytest.raises(
        UserError, match=r"TEST/stray.PNG must be in the folder of its class, .* beside \['cat', 'dog'\]"
    ):
        datasets.load("images", path=str(tmp_path))
    (tmp_path / "TEST" / "stray.PNG").unlink()
    with pytest.raises(
        UserError, match=r"must be a split of data.path, or a part such as .* got 'trian'. Did you mean"
    ):
        datasets.load("images", path=str(tmp_path), splits={"train": "trian"})
    (tmp_path / "Test").mkdir()
    with pytest.raises(UserError, match="must have one folder 'test', got 'TEST' too. Rename"):
        datasets.load("images", path=str(tmp_path))


def test_two_tables_do_not_name_one_image(tmp_path):
    write(tmp_path, "table")
    first, second = (str(tmp_path / "all" / f"list-{name}.csv") for name in "ab")
    dataset = datasets.load("images", path=first, splits={"train": first, "test": second})
    assert [len(split) for split in dataset.splits.values()] == [5, 5]
    (tmp_path / "again.csv").write_text("file,label\nall/dog/09.png,dog\nall/cat/00.png,cat\n")
    with pytest.raises(UserError, match=r"row 3 of .*again.csv must have an image of its own, .*data.splits.train has"):
        datasets.load("images", path=first, splits={"train": first, "test": str(tmp_path / "again.csv")})


@pytest.mark.parametrize("label", [None, -1, 2])
def test_a_missing_label_of_a_saved_folder_is_named(tmp_path, label):
    columns = {"image": [encode(number) for number in range(4)], "label": [0, 1, label, 1]}
    features = {"label": {"names": CLASSES, "_type": "ClassLabel"}}
    saved_datasets.save_splits(tmp_path / "saved", {"train": columns}, features)
    with pytest.raises(UserError, match=f"row 2 of .*train must have a label of 0 to 1, got {label}. Fill it in"):
        datasets.load("images", path=str(tmp_path / "saved"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": ""}, "data.path must be a folder of images or a table of their files, got ''"),
        ({"path": "all/cat"}, "cat must have a folder of images for each class, got .'00.png'"),
        ({"path": "all", "label": "label"}, "data.label must be '' for .*, whose folders are the classes"),
        ({"path": "nowhere"}, "got no file or folder '.*nowhere'. Correct the path"),
        ({"path": "single"}, r"single must have folders of at least two classes, got \['cat'\]. Add another"),
        (
            {"path": "all", "splits": {"train": "0.8"}},
            r"data.splits.train must be a part such as '\[:90%\]', .* got '0.8'",
        ),
        (
            {"path": "all", "splits": {"train": "x.csv"}},
            "data.splits.train must be a file, or a part such as .*'x.csv'",
        ),
        ({"path": "all", "splits": {"test": "[:10%]"}}, "data.splits must have train, got"),
        ({"path": "all", "splits": {"train": "[:5%]"}}, "data.splits.train must have at least one image, got none"),
        (
            {"path": "all", "splits": {"train": "[:80%]", "test": "[60%:]"}},
            r"splits.train='\[:80%\]' and data.splits.test='\[60%:\]' must have no example in common, got 2 of .*all\.",
        ),
        ({"path": "none-*.csv"}, "data.path must match a file, got '.*none-.*csv', which matches none"),
        (
            {"path": "all/list-*.csv", "label": "clas"},
            "data.label, the name of a column, must be one of .*, got 'clas'",
        ),
        (
            {"path": "all/twice.csv"},
            r"row 3 of .*twice.csv must have an image of its own, got './cat/00.png', which row 2 of .*twice.csv has",
        ),
        ({"path": "all/gone.csv"}, r"row 2 of .*gone.csv must name a file in .*all, got 'lost.png'; 1 in all are miss"),
    ],
)
def test_mistakes(tmp_path, settings, message):
    write(tmp_path, "table")
    write_folder(tmp_path / "single", 1)
    (tmp_path / "all" / "twice.csv").write_text("file,label\ncat/00.png,cat\n./cat/00.png,dog\n")
    (tmp_path / "all" / "gone.csv").write_text("file,label\nlost.png,cat\n")
    settings = settings | {"path": str(tmp_path / settings["path"]) if settings["path"] else ""}
    with pytest.raises(UserError, match=message):
        datasets.load("images", **settings)
