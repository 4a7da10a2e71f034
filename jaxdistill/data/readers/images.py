"""Images with their supervision: folders of classes, a table of files, or a folder of `save_to_disk`."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data import arrow_files
from jaxdistill.data.columns import FIRST_ROWS
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.image_files import EncodedImage, ImageFiles, check_channels, read_image
from jaxdistill.data.overlaps import Choice, Files, check_disjoint
from jaxdistill.data.routes import add_routes
from jaxdistill.data.row_files import choose_rows, find_files, find_part, name_roles, read_rows
from jaxdistill.data.supervision import KEYS, Supervision, name_columns, parse
from jaxdistill.data.texts import slice_of
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
PARTS = {"train": "[:80%]", "validation": "[80%:90%]", "test": "[90%:]"}
"""The default splits of images without splits of their own, in an order by chance."""

ROLES = frozenset(["train", "validation", "val", "valid", "dev", "test"])
"""Names of folders that are splits."""


@dataclasses.dataclass(frozen=True)
class Collection:
    """Images in one order.

    Attributes:
        sources: a file or an encoded image each.
        columns: values of the columns of supervision.
        locate: returns the words for an image in an error.
        files: the tables or folders, with the number of images of each.
        class_names: if they are given in order; classes and labels are then indices, or lists of indices.
        routes: values of the column `data.route`, if it is named.
    """

    sources: Sequence[Any]
    columns: Mapping[str, Sequence[Any]]
    locate: Callable[[int], str]
    files: Files
    class_names: tuple[str, ...] = ()
    routes: Sequence[Any] = ()


def read(settings: DatasetSettings) -> Dataset:
    """Opens images, which are decoded as they are read.

    `path` is one of three. A folder `CLASS/FILE`, or `train/CLASS/FILE` with `validation` and `test` beside it, in any
    case. A CSV, TSV, JSONL or Parquet file, or several with `*`, with a column `image` of files, relative to its
    folder, and a column `label`, or columns of `labels` or `targets` (`data.supervision`). A folder of
    `datasets.Dataset.save_to_disk` with such columns. `splits` are parts such as `"train[:90%]"`, or files of tables;
    images are put in an order by chance first, by `split_seed` or 0.

    Args:
        settings: `size` resizes the short side and cuts the centre square; images of several sizes need it.

    Raises:
        UserError: for missing files and columns, for a class that no training image has, and for two splits with an
            image in common.
    """
    channels = check_channels(settings.channels)
    if not settings.path:
        raise UserError("data.path must be a folder of images or a table of their files, got ''. Name it")
    whole = _open_collections(settings)
    parts = {role: text for role, text in settings.splits if text}
    parts = parts or (PARTS if [*whole] == [""] else name_roles([*whole]))
    if "train" not in parts:
        raise UserError(f"data.splits must have train, got {parts}. Add train='[:80%]'")
    chosen: dict[str, tuple[Collection, np.ndarray]] = {}
    for role, text in parts.items():
        name, part = find_part(text)
        collection = whole[name] if name in whole else _open_other(role, name, settings, whole)
        chosen[role] = collection, choose_rows(role, part, len(collection.sources), max(settings.split_seed, 0))
    for role, (_, rows) in chosen.items():
        if not len(rows):
            raise UserError(f"data.splits.{role} must have at least one image, got none. Take a larger part")
    check_disjoint({role: Choice(parts[role], images.files, rows) for role, (images, rows) in chosen.items()})
    _check_tables(chosen)
    supervision = _read_supervision(chosen, settings)
    first, rows = chosen["train"]
    side = settings.size
    shape = (side, side, channels) if side else read_image(first.sources[int(rows[0])], channels).shape
    splits = {
        role: ImageFiles(
            collection.sources,
            rows,
            supervision.label[role],
            size=side,
            shape=shape,
            supervision=supervision.arrays[role],
        )
        for role, (collection, rows) in chosen.items()
    }
    keys = ("image", *KEYS, "splits.seed")
    dataset = Dataset(splits, supervision.class_names, shape, targets=supervision.targets, keys=keys)
    if not settings.route:
        return dataset
    routes = {role: [collection.routes[row] for row in rows] for role, (collection, rows) in chosen.items()}
    return add_routes(dataset, routes, functools.partial(_locate, chosen))


def _check_tables(chosen: Mapping[str, tuple[Collection, np.ndarray]]) -> None:
    """Raises `UserError` for the first image that the tables of two roles name."""
    tables = {role: (images, rows) for role, (images, rows) in chosen.items() if images.files[0][0].is_file()}
    if len({id(images) for images, _ in tables.values()}) < 2:  # the rows of one table have different images
        return
    roles: dict[str, str] = {}
    for role, (images, rows) in tables.items():
        for row in rows:
            path = str(images.sources[row])
            first = roles.setdefault(os.path.abspath(path), role)
            if first != role:
                raise UserError(
                    f"{images.locate(int(row))} must have an image of its own, got {path!r}, which data.splits.{first}"
                    " has too. Remove one of the rows"
                )


def _read_supervision(chosen: Mapping[str, tuple[Collection, np.ndarray]], settings: DatasetSettings) -> Supervision:
    values = {
        role: {name: [column[row] for row in rows] for name, column in collection.columns.items()}
        for role, (collection, rows) in chosen.items()
    }
    return parse(values, settings, functools.partial(_locate, chosen), chosen["train"][0].class_names)


def _locate(chosen: Mapping[str, tuple[Collection, np.ndarray]], role: str, position: int) -> str:
    """Returns the words for an image in an error."""
    collection, rows = chosen[role]
    return collection.locate(int(rows[position]))


def _open_collections(settings: DatasetSettings) -> dict[str, Collection]:
    """Returns the images of `path` by the names of its splits; by "" if it has none."""
    path = files.input_path("data.path", settings.path)
    if arrow_files.is_saved(path):
        folders = arrow_files.find_splits(path)
        return {name: _open_saved(folder, settings) for name, folder in folders.items()}
    if path.is_dir():
        _check_no_columns(settings)
        collections = {name: _list_folder(folder) for name, folder in _find_roles(path).items()}
        for name in collections.keys() & {"", "train"}:
            if len(classes := {*collections[name].columns["label"]}) < 2:
                raise UserError(
                    f"{path / name} must have folders of at least two classes, got {[*classes]}. Add another"
                )
        return collections
    if not path.exists() and not any(mark in settings.path for mark in "*?[,"):
        raise UserError(
            "data.path must be a folder of images or a table of their files, got no file or folder"
            f" {settings.path!r}. Correct the path"
        )
    return {"": _read_table("data.path", settings.path, settings)}


def _find_roles(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the folders of splits by their names in small letters; the folder itself by "" if none is `train`."""
    folders: dict[str, pathlib.Path] = {}
    for folder in sorted(child for child in path.iterdir() if child.is_dir() and child.name.lower() in ROLES):
        name = folder.name.lower()
        if name in folders:
            raise UserError(f"{path} must have one folder {name!r}, got {folders[name].name!r} too. Rename one of them")
        folders[name] = folder
    return folders if "train" in folders else {"": path}


def _open_other(role: str, name: str, settings: DatasetSettings, whole: Mapping[str, Collection]) -> Collection:
    """Returns the images of a table that a split names."""
    if pathlib.Path(name).suffix.lower() not in FIRST_ROWS:
        if "" in whole:
            slice_of(role, name, 1)  # raises, with the forms of a part
        raise unknown(f"data.splits.{role}", name, whole, "a split of data.path, or a part such as '[:80%]'")
    return _read_table(f"data.splits.{role}", name, settings)


def _check_no_columns(settings: DatasetSettings) -> None:
    for key in ("image", "route", *KEYS):
        if value := getattr(settings, key):
            raise UserError(
                f"data.{key} must be {type(value)()!r} for {settings.path}, whose folders are the classes, got"
                f" {value!r}. Remove it, or name a table of files in data.path"
            )


def _list_folder(folder: pathlib.Path) -> Collection:
    """Lists the images of a folder `CLASS/FILE`, with further folders below a class, in order of their names."""
    classes = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    sources: list[pathlib.Path] = []
    labels: list[str] = []
    for child in classes:
        files_of_class = sorted(path for path in child.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not files_of_class:
            raise UserError(f"{child} must have images of {sorted(SUFFIXES)}, got none. Add them, or remove the folder")
        sources += files_of_class
        labels += [child.name] * len(files_of_class)
    if not sources:
        raise UserError(
            f"{folder} must have a folder of images for each class, got"
            f" {sorted(child.name for child in folder.iterdir())[:5]}. Sort the images into folders, or name a table"
            " of files and labels in data.path"
        )
    stray = sorted(child for child in folder.iterdir() if child.suffix.lower() in SUFFIXES and child.is_file())
    if stray:
        names = [child.name for child in classes[:5]]
        raise UserError(
            f"{stray[0]} must be in the folder of its class, got an image beside {names}; there are {len(stray)} in"
            " all. Move or remove them"
        )
    return Collection(sources, {"label": labels}, lambda row: str(sources[row]), [(folder, len(sources))])


def _read_table(key: str, text: str, settings: DatasetSettings) -> Collection:
    image, supervision = settings.image or "file", name_columns(settings, "label")
    keys = {image: "data.image"} | supervision | ({settings.route: "data.route"} if settings.route else {})
    rows = read_rows(key, text, "", keys)
    names, columns = rows.columns[image], {name: rows.columns[name] for name in supervision}
    root = find_files(key, text)[0].parent
    sources = [root / str(name) for name in names]
    missing = [row for row, source in enumerate(sources) if not source.is_file()]
    if missing:
        raise UserError(
            f"{rows.locate(missing[0])} must name a file in {root}, got {names[missing[0]]!r}; {len(missing)} in all"
            " are missing. Correct data.path, or remove the rows"
        )
    rows_by_file: dict[str, int] = {}
    for row, source in enumerate(sources):
        first = rows_by_file.setdefault(os.path.normpath(source), row)
        if first != row:
            raise UserError(
                f"{rows.locate(row)} must have an image of its own, got {names[row]!r}, which {rows.locate(first)} has."
                " Remove one of the rows"
            )
    return Collection(sources, columns, rows.locate, rows.files, routes=rows.columns.get(settings.route, ()))


@dataclasses.dataclass(frozen=True)
class SavedImages(Sequence[Any]):
    """A mapped column of images, of which one is read at a time."""

    column: Any
    folder: pathlib.Path

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, position: Any) -> Any:
        value = self.column[int(position)].as_py()
        entry = value if isinstance(value, dict) else {"bytes": value} if isinstance(value, bytes) else {"path": value}
        if entry.get("bytes"):
            return EncodedImage(f"row {position} of {self.folder}", entry["bytes"])
        if not isinstance(entry.get("path"), str):
            raise UserError(
                f"row {position} of {self.folder} must have an image, got {str(value)[:60]!r}. Remove the row, or name"
                " another column in data.image"
            )
        return self.folder / entry["path"]


def _open_saved(folder: pathlib.Path, settings: DatasetSettings) -> Collection:
    split = arrow_files.open_split(folder)
    keys = name_columns(settings, "label")
    column = split.column(settings.image or "image", "data.image")
    columns = {name: split.column(name, key).to_pylist() for name, key in keys.items()}
    return Collection(
        SavedImages(column, folder),
        columns,
        lambda row: f"row {row} of {folder}",
        files=[(folder, len(column))],
        class_names=split.class_names(next(iter(keys))),
        routes=split.column(settings.route, "data.route").to_pylist() if settings.route else (),
    )
