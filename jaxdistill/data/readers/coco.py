"""JSON files in COCO's form, and folders of images: boxes, or masks of their objects.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, https://arxiv.org/abs/1405.0312; the form is that of
https://cocodataset.org/#format-data. Classes are the categories in the order of their ids. A box of `iscrowd` is a
region of many objects. A mask has the background as its first class; an object covers larger ones, and a crowd is void.
"""

import collections
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.annotated import AnnotatedImage, AnnotatedSplit, Boxes, ExampleForm, choose_size
from jaxdistill.data.coco_masks import draw_objects
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.dense import choose_annotations
from jaxdistill.data.image_files import check_channels, check_files, first_file, read_image
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

KEYS = {"images": ("id", "file_name", "height", "width"), "annotations": ("image_id", "category_id", "bbox")}
"""Lists of a file, and the keys of their entries."""


def read(settings: DatasetSettings) -> Dataset:
    """Reads `data.splits`, a JSON file by role, in the folder `data.path`.

    An image is `file_name` in the folder of its JSON file, in `data.path`, or, for `instances_NAME.json`, in
    `data.path/NAME`.

    Raises:
        UserError: for a file in another form, a missing image, unknown categories, and values of void.
    """
    settings.dense.check_no_void(settings.name)
    root, names = files.input_path("data.path", settings.path), {role: name for role, name in settings.splits if name}
    if not settings.path or not root.is_dir() or "train" not in names:
        raise UserError(
            "data.path must be a folder of images, and data.splits must name the JSON files of 'coco' in it, such as"
            f" train='annotations/instances_train.json', got {settings.path!r} and {names}. Set both"
        )
    paths = {role: root / name for role, name in names.items()}
    raw = {role: _read_file(path) for role, path in paths.items()}
    categories = sorted(raw["train"]["categories"], key=lambda category: category["id"])
    numbers = {category["id"]: number for number, category in enumerate(categories)}
    for role, content in raw.items():
        _check_categories(paths[role], content["categories"], {entry["id"]: entry["name"] for entry in categories})
    images = {role: _group(paths[role], content, numbers) for role, content in raw.items()}
    for role, path in paths.items():
        for entry in images[role]:
            entry["path"] = _find_image(root, path, entry["file_name"])
        check_files([entry["path"] for entry in images[role]], str(path))
    has_outlines = all("segmentation" in entry for content in raw.values() for entry in content["annotations"])
    kind = choose_annotations(settings.dense.annotations, ["masks"] * has_outlines + ["boxes"], settings.name)
    sizes = {(entry["height"], entry["width"]) for entries in images.values() for entry in entries}
    size, channels = choose_size(sizes, settings.size, settings.dense.width, "coco"), check_channels(settings.channels)
    class_names = tuple(str(category["name"]) for category in categories)
    if kind == "masks":
        class_names = ("background", *class_names)
        values = tuple(range(len(class_names)))
        form = ExampleForm(size, channels, len(values), values=values, void=(len(values),))
    else:
        most = max(len(entry["objects"]) for entries in images.values() for entry in entries)
        form = ExampleForm(size, channels, len(class_names), most=settings.dense.boxes or max(1, most))
    splits = {
        role: AnnotatedSplit(
            len(entries), functools.partial(_fetch, entries, numbers, kind=kind, channels=channels), form
        )
        for role, entries in images.items()
    }
    return Dataset(splits, class_names, (*size, channels))


def _read_file(path: pathlib.Path) -> dict[str, Any]:
    fix = "Correct data.splits, or the file"
    if not path.is_file():
        raise UserError(f"{path} must be a JSON file of COCO's form, got no file. {fix}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} must be a JSON file of COCO's form, got {error}. {fix}") from error
    for name, keys in {**KEYS, "categories": ("id", "name")}.items():
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or (name != "annotations" and not entries):
            raise UserError(
                f"{path} must have a list {name!r}, as COCO's form has, got {type(entries).__name__}. {fix}"
            )
        for number, entry in enumerate(entries):
            missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
            if missing:
                raise UserError(f"{name}[{number}] of {path} must have {list(keys)}, got none of {missing}. {fix}")
        ids = collections.Counter(entry["id"] for entry in entries if "id" in keys)
        if repeated := [number for number, count in ids.items() if count > 1]:
            raise UserError(f"{name} of {path} must have an id each, got {repeated[:5]} twice. {fix}")
    return content


def _check_categories(path: pathlib.Path, categories: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> None:
    """Raises `UserError` for a category of another name than that of the training file."""
    for category in categories:
        number, name = category["id"], category["name"]
        if name != names.get(number, name):
            raise UserError(
                f"category {number!r} of {path} must be {names[number]!r}, as in the training file, got {name!r}."
                " Number the categories of both alike"
            )


def _group(path: pathlib.Path, content: Mapping[str, Any], numbers: Mapping[int, int]) -> list[dict[str, Any]]:
    """Returns the images of a file with their `objects`."""
    images = {entry["id"]: {**entry, "objects": []} for entry in content["images"]}
    for number, entry in enumerate(content["annotations"]):
        if entry["image_id"] not in images:
            raise UserError(
                f"annotations[{number}] of {path} must be of one of its {len(images)} images, got image_id"
                f" {entry['image_id']!r}. Remove it"
            )
        if entry["category_id"] not in numbers:
            raise UserError(
                f"annotations[{number}] of {path} must be of a category of the training file, {[*numbers][:20]}, got"
                f" category_id {entry['category_id']!r}. Add the category, or remove it"
            )
        if entry.get("iscrowd") not in (None, 0, 1):
            raise UserError(
                f"annotations[{number}] of {path} must have iscrowd 0 or 1, got {entry['iscrowd']!r}. Correct it"
            )
        box = entry["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
            raise UserError(
                f"annotations[{number}] of {path} must have a bbox [left, top, width, height], got {box!r}. Correct it"
            )
        images[entry["image_id"]]["objects"].append(entry)
    return [*images.values()]


def _find_image(root: pathlib.Path, path: pathlib.Path, name: str) -> pathlib.Path:
    folders = [root, path.parent]
    if path.stem.startswith("instances_"):
        folders.append(root / path.stem.removeprefix("instances_"))
    return first_file([folder / name for folder in folders])


def _fetch(
    entries: Sequence[Mapping[str, Any]],
    numbers: Mapping[int, int],
    positions: Sequence[int],
    *,
    kind: str,
    channels: int,
) -> list[AnnotatedImage]:
    fetched = []
    for position in positions:
        entry = entries[position]
        image, place = read_image(entry["path"], channels), str(entry["path"])
        size = (entry["height"], entry["width"])
        if image.shape[:2] != size:
            raise UserError(
                f"{place} must be {size[0]} x {size[1]} pixels, as its JSON file states, got {image.shape[0]} x"
                f" {image.shape[1]}. Correct one of them"
            )
        labels = [numbers[item["category_id"]] for item in entry["objects"]]
        crowds = [int(item.get("iscrowd") or 0) for item in entry["objects"]]
        if kind == "masks":
            outlines = [item["segmentation"] for item in entry["objects"]]
            values = [len(numbers) + 1 if crowd else label + 1 for label, crowd in zip(labels, crowds, strict=True)]
            fetched.append(AnnotatedImage(image, place, mask=draw_objects(size, outlines, values, place)))
        else:
            corners = np.array([item["bbox"] for item in entry["objects"]], np.float64).reshape(-1, 4)
            corners = np.concatenate([corners[:, 1::-1], corners[:, 1::-1] + corners[:, :1:-1]], 1)
            fetched.append(AnnotatedImage(image, place, boxes=Boxes.of(corners / [*size, *size], labels, crowds)))
    return fetched
