"""What a dataset is: splits by role, each a number of examples that can be taken by their places.

An example is an image or a text. Images are `[n, height, width, channels]`, uint8 as they are stored (float32 where an
`.npz` holds floats, taken to be in units of [0, 1]). Texts are `tokens` int32 `[n, length]`, with a `token_mask` of the
same shape where some are padded. Labels are int32 `[n]`, `core.UNLABELLED` where the student may not see one, or where
there is none, as of texts whose next tokens are to be predicted.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from jaxdistill.errors import UserError, unknown

CHUNK = 256
"""Examples decoded at once: TFDS reads groups about twice as fast as single examples."""

EMBEDDED = ("digits", "npz", "noise", "text", "arithmetic")
"""The names that are no dataset of TFDS."""


class Split(Protocol):
    """Examples by place, 0 to `len(split) - 1`.

    An example also has an `index`, its place in the `whole` that the split is cut out of: what is remembered or cached
    of it is kept under that number, whichever part of the data it is dealt from.
    """

    def __len__(self) -> int: ...

    def take(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `{"image": [n, height, width, channels], "label": int32 [n]}`, or `tokens` in the image's place."""
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
    """Splits by role (`train`, `validation`, `test`) and what holds for all of them.

    Attributes:
        class_names: of the labels; none where there are no labels, as of a text.
        shape: of an image, `(height, width, channels)`, or of a text, `(length,)`.
        vocabulary: of texts, the number of tokens; 0 of images.
        of_bytes: whether a token is a byte of a text.
        name: as a config names it; "" if it has none.
    """

    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    vocabulary: int = 0
    of_bytes: bool = False
    name: str = ""

    @property
    def classes(self) -> int:
        """Number of classes of the labels; of texts without labels, the number of tokens."""
        return len(self.class_names) or self.vocabulary

    @functools.cached_property
    def fields(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and dtype of each field of an example."""
        example = self.split("train").take(np.arange(1))
        return {name: (array.shape[1:], array.dtype) for name, array in example.items()}

    @property
    def example_bytes(self) -> int:
        """What an example takes on the device."""
        return math.prod(self.shape) * (4 if self.vocabulary else 1)

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


def check_whole(what: str, numbers: np.ndarray, kind: str) -> None:
    """Raises `UserError` for what are no whole numbers from 0 on."""
    whole = np.issubdtype(numbers.dtype, np.integer)
    if not whole or numbers.min() < 0:
        seen = f"from {numbers.min()} to {numbers.max()}" if whole else f"of {numbers.dtype}"
        raise UserError(f"{what} is {seen}; {kind} are whole numbers from 0 on")


def class_names(path: str, arrays: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Returns the names of an `.npz`'s classes: those in it, else numbers up to the largest label of `train`.

    Args:
        labels: those of each split, whole numbers from 0 on.

    Raises:
        UserError: for names that are no list, and labels that go beyond them.
    """
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise UserError(f"{path}: 'class_names' has shape {arrays['class_names'].shape}; it is a list of names")
        names = tuple(map(str, arrays["class_names"]))
    else:
        train = labels["train"]
        if train.max() >= len(train):
            raise UserError(
                f"{path}: 'train_label' goes up to {train.max()} in {len(train)} examples; mend it, or add"
                " 'class_names'"
            )
        names = tuple(map(str, range(train.max() + 1)))
    for role, label in labels.items():
        if label.max() >= len(names):
            raise UserError(f"{path}: '{role}_label' goes up to {label.max()}, and there are {len(names)} classes")
    return names
