"""Arrays of images with masks or boxes, as the fields `ROLE_FIELD` of an `.npz`."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.annotated import (
    LARGEST_VALUE,
    AnnotatedImage,
    AnnotatedSplit,
    Boxes,
    ExampleForm,
    choose_size,
    choose_values,
    largest_value,
)
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.dense import ANNOTATIONS, choose_annotations
from jaxdistill.data.spilled import map_rows
from jaxdistill.errors import UserError

FIELDS = ("image", "label_map", "boxes", "box_label", "box_crowd")
REQUIRED = {"masks": ("label_map",), "boxes": ("boxes", "box_label")}
VOID = LARGEST_VALUE - 1
"""The value that stands for -1 in a mask."""


def is_dense(arrays: Mapping[str, np.ndarray]) -> bool:
    """Returns whether arrays are of images with masks or boxes."""
    return any(f"train_{field}" in arrays for field in FIELDS[1:])


def make_dense_dataset(
    path: str, arrays: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray], settings: DatasetSettings
) -> Dataset:
    """Returns a dataset of masks `label_map`, or of `boxes` with `box_label` and optionally `box_crowd`.

    Args:
        path: of the file, for messages.
        arrays: by their names in the file.
        images: checked, by role.
        settings: of the dataset.

    Raises:
        UserError: for missing arrays, and those that do not fit each other.
    """
    existing = [kind for kind, (field, *_) in REQUIRED.items() if f"train_{field}" in arrays]
    kind = choose_annotations(settings.dense.annotations, existing, path)
    labels = {role: _check(path, role, kind, arrays=arrays, count=len(image)) for role, image in images.items()}
    names = tuple(map(str, arrays.get("class_names", ()))) or settings.dense.class_names
    size = choose_size(
        {image.shape[1:3] for image in images.values()}, settings.size, settings.dense.width, settings.name
    )
    channels = settings.channels or images["train"].shape[-1]
    if kind == "masks":
        void = (*settings.dense.void, VOID)
        dense = type(settings.dense)(class_names=names, void=settings.dense.void)
        names, values = choose_values(dense, lambda: largest_value(labels["train"]["label_map"], void))
        form = ExampleForm(size, channels, len(names), values=values, void=void)
    else:
        names = names or tuple(map(str, range(int(labels["train"]["box_label"].max(initial=-1)) + 1)))
        most = max(fields["boxes"].shape[1] for fields in labels.values())
        form = ExampleForm(size, channels, len(names), most=settings.dense.boxes or max(1, most))
    splits = {}
    for role, image in images.items():
        fetch = functools.partial(_fetch, image, labels[role], f"of {role!r} of {path}")
        splits[role] = AnnotatedSplit(len(image), fetch, form)
    return Dataset(splits, names, (*size, channels))


def _check(path: str, role: str, kind: str, *, arrays: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Returns the arrays of a role with integers for labels, and -1 for void as `VOID`."""
    fields = {field: arrays[f"{role}_{field}"] for field in ANNOTATIONS[kind] if f"{role}_{field}" in arrays}
    missing = [f"{role}_{field}" for field in REQUIRED[kind] if field not in fields]
    if missing:
        raise UserError(f"{path} must have the arrays {missing}, got {sorted(arrays)}. Add them")
    shape = fields["label_map" if kind == "masks" else "boxes"].shape
    for field, array in fields.items():
        expected = {"boxes": (count, *shape[1:2], 4), "label_map": (count, *shape[1:3])}.get(
            field, (count, *shape[1:2])
        )
        if array.shape != expected or (field != "boxes" and not np.issubdtype(array.dtype, np.integer)):
            kind_of_numbers = "numbers" if field == "boxes" else "integers"
            raise UserError(
                f"'{role}_{field}' of {path} must be {kind_of_numbers} {list(expected)}, got {array.dtype}"
                f" {list(array.shape)}. Correct it"
            )
    if kind == "masks":
        fields["label_map"] = map_rows(
            lambda x: np.where(x == UNLABELLED, VOID, x).astype(np.int32), fields["label_map"]
        )
    return fields


def _fetch(
    images: np.ndarray, fields: Mapping[str, np.ndarray], place: str, positions: Sequence[int]
) -> list[AnnotatedImage]:
    fetched = []
    for position in positions:
        label = {name: array[position] for name, array in fields.items()}
        if "label_map" in label:
            annotation = {"mask": label["label_map"]}
        else:
            is_box = label["box_label"] != UNLABELLED
            crowds = label.get("box_crowd", np.zeros(len(is_box), int))
            annotation = {"boxes": Boxes(*(array[is_box] for array in (label["boxes"], label["box_label"], crowds)))}
        fetched.append(AnnotatedImage(images[position], f"example {position} {place}", **annotation))
    return fetched
