"""What a dataset is: splits by role, each a number of examples that can be taken by their places.

Images are `[n, height, width, channels]`, uint8 as they are stored (float32 where an `.npz` holds floats, taken to be
in units of [0, 1]), labels int32 `[n]`, `core.UNLABELLED` where the student may not see one.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from jaxdistill.errors import UserError, unknown

CHUNK = 256
"""Examples decoded at once: TFDS reads groups about twice as fast as single examples."""

EMBEDDED = ("digits", "npz", "noise")
"""The names that are no dataset of TFDS."""


class Split(Protocol):
    """Examples by place, 0 to `len(split) - 1`.

    An example also has an `index`, its place in the `whole` that the split is cut out of: what is remembered or cached
    of it is kept under that number, whichever part of the data it is dealt from.
    """

    def __len__(self) -> int: ...

    def take(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `{"image": [n, height, width, channels], "label": int32 [n]}`."""
        ...

    def labels(self) -> np.ndarray:
        """Returns every label, int32 `[len(self)]`, without decoding an image."""
        ...

    @property
    def whole(self) -> "Split":
        """What this is cut out of; the split itself where nothing was cut."""
        return self

    def index(self, places: np.ndarray) -> np.ndarray:
        """Returns the places in the whole of the examples at `places`, int32."""
        return np.asarray(places, np.int32)


@dataclasses.dataclass(frozen=True)
class Arrays(Split):
    """A split held in memory."""

    image: np.ndarray
    label: np.ndarray

    def __len__(self):
        return len(self.label)

    def take(self, places):
        return {"image": self.image[places], "label": self.label[places]}

    def labels(self):
        return self.label


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Splits by role (`train`, `validation`, `test`) and what holds for all of them."""

    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def split(self, role: str) -> Split:
        if role not in self.splits:
            raise unknown("split", role, self.splits)
        return self.splits[role]


def check_finite(image: np.ndarray, indices: np.ndarray, where: str) -> None:
    """Raises `UserError` naming the first example that holds a NaN or an infinity."""
    bad = ~np.isfinite(image).all(axis=tuple(range(1, image.ndim)))
    if bad.any():
        raise UserError(
            f"{where} is not finite in {bad.sum()} of {len(bad)} examples, the first at index"
            f" {indices[np.flatnonzero(bad)[0]]}; clean the data, NaN would spread to every weight"
        )
