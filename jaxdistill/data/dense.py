"""Dense labels of images: label maps with a class per pixel, and boxes with a class each.

A label map is `label_map`, int32 `[n, height, width]`, `core.UNLABELLED` for void. Boxes are `boxes`, float32
`[n, most, 4]`, as top, left, bottom and right divided by the image's height or width, with their class `box_label`,
int32 `[n, most]`, `core.UNLABELLED` for rows that fill the array, and `box_crowd`, int32 `[n, most]`, 1 for regions of
many objects, which are no target of training (COCO's `iscrowd`).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Split
from jaxdistill.errors import UserError

BOX_FIELDS = ("boxes", "box_label", "box_crowd")

ANNOTATIONS = {"masks": ("label_map",), "boxes": BOX_FIELDS}
"""Fields of examples by the setting `data.annotations`."""


DENSE_FIELDS = {"label_map", *BOX_FIELDS}


class Dense(Split):
    """A split of images without a class of their own."""

    def labels(self) -> np.ndarray:
        return np.full(len(self), UNLABELLED, np.int32)


@dataclasses.dataclass(frozen=True)
class DenseArrays(Dense):
    """A split in memory: `image` and dense labels, by field."""

    fields: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.fields["image"])

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array[positions] for name, array in self.fields.items()}


def check_dense(batch: Mapping[str, np.ndarray], classes: int, path: str) -> None:
    """Raises `UserError` for a class of a pixel or of a box outside `[0, classes)`; -1 marks void and padding."""
    for field in ("label_map", "box_label"):
        label = batch.get(field)
        if label is not None and label.size and (label.min() < UNLABELLED or label.max() >= classes):
            raise UserError(
                f"{field} of {path} must be in [0, {classes}) or {UNLABELLED}, got {label.min()} to {label.max()}."
                " Correct the data or its class names"
            )


def choose_annotations(wanted: str, existing: Sequence[str], name: str) -> str:
    """Returns the annotations to read, "masks" or "boxes".

    Args:
        wanted: the setting `data.annotations`, "" for those that exist.
        existing: those of the dataset.
        name: of the dataset.

    Raises:
        UserError: for annotations that do not exist, and without a choice between two.
    """
    if wanted in existing:
        return wanted
    if wanted or len(existing) != 1:
        raise UserError(
            f"data.annotations must be one of {[*existing]}, the annotations of {name!r}, got {wanted!r}. Set it"
        )
    return existing[0]


def pad_boxes(boxes: np.ndarray, labels: np.ndarray, crowds: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """Fills the boxes of one image, `[boxes, 4]`, up to a number of rows.

    Args:
        boxes: at most `most`, as those of this module.
        labels: their classes, `[boxes]`.
        crowds: whether each is a region of many objects, `[boxes]`.
        most: number of rows.
    """
    count = len(labels)
    padded = {
        "boxes": np.zeros((most, 4), np.float32),
        "box_label": np.full(most, UNLABELLED, np.int32),
        "box_crowd": np.zeros(most, np.int32),
    }
    padded["boxes"][:count], padded["box_label"][:count], padded["box_crowd"][:count] = boxes, labels, crowds
    return padded
