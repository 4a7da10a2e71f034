"""Folders in the form of PASCAL VOC: boxes in XML files, or masks as images of class numbers.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010. Boxes in a file are pixels counted
from 1, both ends inclusive. `difficult` objects are read as COCO's crowds: no target, and a detection whose share
inside of one reaches the threshold is neither right nor wrong. The challenge leaves them out of its evaluation too, but
matches detections with them by IoU, as with every object.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from jaxdistill.data.annotated import (
    AnnotatedImage,
    AnnotatedSplit,
    Boxes,
    ExampleForm,
    choose_size,
    choose_values,
    largest_value,
)
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.dense import choose_annotations
from jaxdistill.data.image_files import check_channels, check_files, first_file, read_image, read_mask, read_size
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

FOLDERS = {"masks": "SegmentationClass", "boxes": "Annotations"}
LISTS = {"masks": "Segmentation", "boxes": "Main"}
"""Folders of `ImageSets` with the names of images."""

SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""The default lists."""


def read(settings: DatasetSettings) -> Dataset:
    """Reads the images of lists `ImageSets/Main/NAME.txt` with boxes, or `ImageSets/Segmentation/NAME.txt` with masks.

    `data.path` is the folder with `Annotations`, `JPEGImages`, `SegmentationClass` and `ImageSets`; `data.splits` names
    the lists, by default those of train, val and test that exist. Classes of boxes are the names in the training files,
    sorted, or `data.class_names`; those of masks are its values, named by `data.class_names`.

    Raises:
        UserError: for missing files and lists, damaged files, and unknown names of classes.
    """
    root = files.input_path("data.path", settings.path)
    existing = [kind for kind, folder in FOLDERS.items() if settings.path and (root / folder).is_dir()]
    if not existing:
        raise UserError(
            f"data.path must be a folder with {[*FOLDERS.values()]}, JPEGImages and ImageSets for 'voc', got"
            f" {settings.path!r}. Correct it"
        )
    kind = choose_annotations(settings.dense.annotations, existing, settings.name)
    names = {role: _read_list(path) for role, path in _choose_lists(root / "ImageSets" / LISTS[kind], settings).items()}
    images = {role: [_image_file(root, name) for name in listed] for role, listed in names.items()}
    suffix = {"masks": ".png", "boxes": ".xml"}[kind]
    labels = {role: [root / FOLDERS[kind] / f"{name}{suffix}" for name in listed] for role, listed in names.items()}
    for role in names:
        check_files([*images[role], *labels[role]], f"the list of {role!r} of {settings.path}")
    channels = check_channels(settings.channels)
    every = [path for paths in images.values() for path in paths]
    sizes = set() if settings.size else {read_size(path) for path in every}
    size = choose_size(sizes, settings.size, settings.dense.width, settings.name)
    if kind == "masks":
        void = settings.dense.void
        class_names, values = choose_values(
            settings.dense, lambda: largest_value(map(read_mask, labels["train"]), void)
        )
        form = ExampleForm(size, channels, len(values), values=values, void=void)
        read_label: Callable[..., Mapping[str, Any]] = _read_mask
    else:
        objects = {path: _read_objects(path) for paths in labels.values() for path in paths}
        training = {name for path in labels["train"] for name, *_ in objects[path]}
        class_names = settings.dense.class_names or tuple(sorted(training))
        most = settings.dense.boxes or max(1, *map(len, objects.values()))
        form = ExampleForm(size, channels, len(class_names), most=most)
        read_label = functools.partial(_make_boxes, objects, class_names)
    splits = {}
    for role in names:
        fetch = functools.partial(_fetch, images[role], labels[role], read_label, channels=channels)
        splits[role] = AnnotatedSplit(len(names[role]), fetch, form)
    return Dataset(splits, tuple(class_names), (*size, channels))


def _choose_lists(folder: pathlib.Path, settings: DatasetSettings) -> dict[str, pathlib.Path]:
    """Returns the file of each role's list."""
    available = sorted(path.stem for path in folder.glob("*.txt"))
    default = {role: name for role, name in SPLITS.items() if name in available}
    names = {"train": SPLITS["train"]} | ({role: name for role, name in settings.splits if name} or default)
    for role, name in names.items():
        if name not in available:
            raise unknown(f"data.splits.{role}", name, available, f"a list in {folder}")
    return {role: folder / f"{name}.txt" for role, name in names.items()}


def _read_list(path: pathlib.Path) -> list[str]:
    """Returns the names of images; lists of one class also have a number after each."""
    names = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise UserError(f"{path} must have the name of an image in each line, got none. Take another list")
    return names


def _image_file(root: pathlib.Path, name: str) -> pathlib.Path:
    return first_file([root / "JPEGImages" / f"{name}{suffix}" for suffix in (".jpg", ".png", ".jpeg")])


def _read_objects(path: pathlib.Path) -> list[tuple[str, bool, list[float]]]:
    """Returns the objects of a file: name, whether it is difficult, and top, left, bottom and right in pixels."""
    try:
        root = ElementTree.parse(path).getroot()
        objects = []
        for element in root.iter("object"):
            box = element.find("bndbox")
            sides = {key: float(box.find(key).text) for key in ("ymin", "xmin", "ymax", "xmax")}
            corners = [sides["ymin"] - 1, sides["xmin"] - 1, sides["ymax"], sides["xmax"]]
            objects.append(
                (element.find("name").text.strip(), element.findtext("difficult", "0").strip() == "1", corners)
            )
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} must have objects with a name and a bndbox of xmin, ymin, xmax and ymax, got {error}. Correct it"
        ) from error
    return objects


def _make_boxes(
    objects: Mapping[pathlib.Path, list[tuple[str, bool, list[float]]]],
    class_names: Sequence[str],
    path: pathlib.Path,
    size: tuple[int, int],
) -> dict[str, Any]:
    labels = []
    for name, _, _ in objects[path]:
        if name not in class_names:
            raise unknown(f"a name in {path}", name, class_names, "a class of the training files")
        labels.append(class_names.index(name))
    height, width = size
    corners = [
        [top / height, left / width, bottom / height, right / width] for *_, (top, left, bottom, right) in objects[path]
    ]
    return {"boxes": Boxes.of(corners, labels, [int(is_difficult) for _, is_difficult, _ in objects[path]])}


def _read_mask(path: pathlib.Path, size: tuple[int, int]) -> dict[str, Any]:
    return {"mask": read_mask(path)}


def _fetch(
    images: Sequence[pathlib.Path],
    labels: Sequence[pathlib.Path],
    read_label: Callable[..., Mapping[str, Any]],
    positions: Sequence[int],
    *,
    channels: int,
) -> list[AnnotatedImage]:
    fetched = []
    for position in positions:
        image = read_image(images[position], channels)
        fetched.append(
            AnnotatedImage(image, str(labels[position]), **read_label(labels[position], size=image.shape[:2]))
        )
    return fetched
