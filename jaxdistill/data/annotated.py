"""Images with masks or boxes as they are stored, and as the examples of a dataset: of one size, in range, padded.

An image is stretched to the size of the dataset, a mask is resized by the nearest pixel, and boxes, which are fractions
of the image, stay. Boxes that cross the border of the image are clipped. Boxes of zero area are left out: rounding in
annotations makes some. A box with no part in its image, or with swapped corners, is a mistake.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import CHUNK, DenseSettings
from jaxdistill.data.dense import Dense, pad_boxes
from jaxdistill.data.images import convert_channels, stretch
from jaxdistill.errors import UserError

LARGEST_VALUE = 2**16
"""Values of a mask are below."""


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Boxes of one image: top, left, bottom and right as fractions of it.

    Attributes:
        corners: `[boxes, 4]`.
        labels: classes, `[boxes]`.
        crowds: 1 for regions of many objects, `[boxes]`.
    """

    corners: np.ndarray
    labels: np.ndarray
    crowds: np.ndarray

    @classmethod
    def of(cls, corners: Sequence[Sequence[float]], labels: Sequence[int], crowds: Sequence[int] = ()) -> "Boxes":
        """Returns boxes from lists, which may be empty."""
        crowds = crowds or [0] * len(labels)
        return cls(np.array(corners, np.float64).reshape(-1, 4), np.array(labels, int), np.array(crowds, int))


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """An image as it is stored.

    Attributes:
        image: `[height, width, channels]`.
        place: describes it in an error.
        mask: values `[height, width]`, or `None`.
        boxes: or `None`.
    """

    image: np.ndarray
    place: str
    mask: np.ndarray | None = None
    boxes: Boxes | None = None


@dataclasses.dataclass(frozen=True)
class ExampleForm:
    """The form of the examples of a dataset.

    Attributes:
        size: height and width.
        channels: of images; 0 for those that they have.
        classes: number of classes.
        values: values of masks that are classes, in their order.
        void: values of masks that are of no class.
        most: number of rows of boxes.
    """

    size: tuple[int, int]
    channels: int
    classes: int
    values: tuple[int, ...] = ()
    void: tuple[int, ...] = ()
    most: int = 0

    def make_fields(self, example: AnnotatedImage) -> dict[str, np.ndarray]:
        """Returns the fields of an example.

        Raises:
            UserError: for a mask of another size than its image or with unknown values, and for boxes that are wrong or
                too many.
        """
        image = convert_channels(example.image, self.channels)
        fields = {"image": stretch(image, self.size)}
        if example.mask is not None:
            fields["label_map"] = self._resize_mask(example.mask, image.shape[:2], example.place)
        if example.boxes is not None:
            boxes = check_boxes(example.boxes, self.classes, example.place)
            if len(boxes.labels) > self.most:
                raise UserError(
                    f"data.boxes must be at least {len(boxes.labels)}, the number of boxes of {example.place}, got"
                    f" {self.most}. Set it, or 0 for the largest number"
                )
            fields |= pad_boxes(boxes.corners, boxes.labels, boxes.crowds, most=self.most)
        return fields

    @functools.cached_property
    def _classes_by_value(self) -> np.ndarray:
        table = np.full(LARGEST_VALUE, UNLABELLED - 1, np.int32)
        table[list(self.values)] = np.arange(len(self.values))
        table[list(self.void)] = UNLABELLED
        return table

    def _resize_mask(self, mask: np.ndarray, size: tuple[int, int], place: str) -> np.ndarray:
        if mask.shape != size:
            raise UserError(
                f"the mask of {place} must be as its image, {size[0]} x {size[1]}, with one value per pixel, got"
                f" {list(mask.shape)}. Correct it"
            )
        rows, columns = ((np.arange(new) * 2 + 1) * old // (2 * new) for new, old in zip(self.size, size, strict=True))
        values = mask[rows[:, None], columns]
        is_possible = (values >= 0) & (values < LARGEST_VALUE)
        label_map = np.where(is_possible, self._classes_by_value[np.where(is_possible, values, 0)], UNLABELLED - 1)
        if (label_map < UNLABELLED).any():
            wrong = [int(value) for value in np.unique(values[label_map < UNLABELLED])]
            raise UserError(
                f"the mask of {place} must have values of the {len(self.values)} classes, {describe(self.values)}, or"
                f" of data.void={self.void}, got {wrong[:5]}. Add them to data.class_names or data.void"
            )
        return label_map


def describe(values: Sequence[int]) -> str:
    """Returns a few values of masks as text, such as `0 to 10`."""
    if len(values) > 1 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} to {values[-1]}"
    return str([*values])


def check_boxes(boxes: Boxes, classes: int, place: str) -> Boxes:
    """Returns boxes clipped to their image, without those of zero area.

    Raises:
        UserError: for corners that are not finite or swapped, a box outside the image, and a class out of range.
    """
    corners, labels = boxes.corners, boxes.labels
    top, left, bottom, right = np.moveaxis(corners, -1, 0)
    reasons = {
        "finite corners": np.isfinite(corners).all(-1),
        "top and left before bottom and right": ~((bottom < top) | (right < left)),
        "a part in the image, in fractions of its height and width": ~(
            ((bottom <= 0) | (right <= 0) | (top >= 1) | (left >= 1)) & (bottom > top) & (right > left)
        ),
        f"a class in [0, {classes})": (labels >= 0) & (labels < classes),
    }
    for reason, holds in reasons.items():
        if not holds.all():
            first = int(np.flatnonzero(~holds)[0])
            numbers = [round(float(number), 4) for number in corners[first]]
            raise UserError(
                f"box {first} of {place} must have {reason}, got top, left, bottom, right {numbers} of class"
                f" {labels[first]}. Correct or remove it"
            )
    clipped = np.clip(corners, 0, 1).astype(np.float32)
    has_area = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    return Boxes(clipped[has_area], labels[has_area], boxes.crowds[has_area])


@dataclasses.dataclass(frozen=True)
class AnnotatedSplit(Dense):
    """A split whose images are decoded as they are read.

    Attributes:
        count: number of examples.
        fetch: returns the images at some positions.
        form: of the examples.
    """

    count: int
    fetch: Callable[[Sequence[int]], Sequence[AnnotatedImage]]
    form: ExampleForm

    def __len__(self) -> int:
        return self.count

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        examples: list[dict[str, np.ndarray]] = []
        for start in range(0, len(positions), CHUNK):
            images = self.fetch([int(position) for position in positions[start : start + CHUNK]])
            examples += [self.form.make_fields(image) for image in images]
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def choose_size(sizes: set[tuple[int, int]], size: int, width: int, name: str) -> tuple[int, int]:
    """Returns the height and width of examples: those set, or those that all images have.

    Args:
        sizes: of the stored images.
        size: the setting `data.size`.
        width: the setting `data.width`.
        name: of the dataset.

    Raises:
        UserError: for images of several sizes without a common one.
    """
    if width and not size:
        raise UserError(f"data.size must be the height of images if data.width is set, got 0 and {width}. Set both")
    if size:
        return size, width or size
    if len(sizes) != 1:
        few = [f"{height} x {width}" for height, width in sorted(sizes)[:3]]
        raise UserError(
            f"data.size must be set for {name!r}, whose images are of several sizes ({', '.join(few)}), got 0. Set it,"
            " with data.width if images are not square"
        )
    return next(iter(sizes))


def choose_values(dense: DenseSettings, find_largest: Callable[[], int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns names and values of the classes of masks, without those of `data.void`.

    Args:
        dense: settings; without names, classes are the values up to the largest one.
        find_largest: returns the largest value of the training masks without void, by a pass over them.

    Raises:
        UserError: for values out of range, and a default of void among the values of names.
    """
    count, default = len(dense.class_names), DenseSettings.void
    if not all(0 <= value < LARGEST_VALUE for value in dense.void):
        raise UserError(f"data.void must be values in [0, {LARGEST_VALUE}), got {dense.void}. Correct it")
    if dense.void == default and count > min(default):
        raise UserError(
            f"data.void must be set with more than {min(default)} data.class_names, got {default}, its default, and"
            f" {count} names. Set values that are of no class, such as ({LARGEST_VALUE - 1},)"
        )
    # As many values as names, and as many more as void may take away.
    end = count + len(dense.void) if count else find_largest() + 1
    if end > LARGEST_VALUE:
        raise UserError(f"the training masks must have values below {LARGEST_VALUE}, got {end - 1}. Correct them")
    values = tuple(value for value in range(end) if value not in dense.void)
    values = values[:count] if count else values
    return tuple(dense.class_names) or tuple(map(str, values)), values


def largest_value(masks: Iterable[np.ndarray], void: Sequence[int]) -> int:
    """Returns the largest value of some masks that is not void; -1 if there is none."""
    return max((int(value) for mask in masks for value in np.unique(mask) if value not in void), default=-1)
