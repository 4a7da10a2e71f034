"""Promises of readers of datasets."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxdistill.conformance.promise import NotApplicable, Promise, require
from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, DatasetSettings, DenseSettings, NoiseSettings, Split
from jaxdistill.data.dense import check_dense

MOST = 16
"""Number of examples of a split that are read."""


@dataclasses.dataclass(frozen=True)
class ReadTwice:
    """A dataset, read twice by one reader."""

    first: Dataset
    second: Dataset

    def splits(self) -> Iterator[tuple[str, Split, np.ndarray]]:
        """Yields each split with its role, and positions that are spread over it, the last first."""
        for role, split in self.first.splits.items():
            positions = np.unique(np.linspace(0, len(split) - 1, min(MOST, len(split))).astype(int))[::-1]
            yield role, split, positions


def make_subject(member: Callable[[DatasetSettings], Dataset], **fields: Any) -> ReadTwice:
    """Reads a dataset twice.

    Args:
        member: the reader.
        fields: of its settings, such as `path` or `length`; `classes` is that of noise, `annotations` of dense labels.
    """
    noise = NoiseSettings(classes=fields.pop("classes", 0))
    dense = DenseSettings(annotations=fields.pop("annotations", ""))
    settings = DatasetSettings(**{"name": member.__module__, "noise": noise, "dense": dense} | fields)
    return ReadTwice(member(settings), member(settings))


def splits_with_examples(subject: ReadTwice) -> None:
    dataset = subject.first
    require(isinstance(dataset, Dataset), f"the result must be a Dataset, got {type(dataset).__name__}")
    require("train" in dataset.splits, f"splits must include 'train', got {[*dataset.splits]}")
    for role, split in dataset.splits.items():
        require(len(split) > 0, f"split {role!r} must have examples, got none")


def rows_of_fields(subject: ReadTwice) -> None:
    fields = subject.first.fields
    for role, split, positions in subject.splits():
        for name, array in split.take(positions).items():
            require(len(array) == len(positions), f"{role}: {name!r} must have a row per position, got {len(array)}")
            expected = fields.get(name)
            is_same = (array.shape[1:], array.dtype) == expected
            require(
                is_same, f"{role}: {name!r} must be {expected}, as in 'train', got {array.shape[1:]}, {array.dtype}"
            )


def values_in_range(subject: ReadTwice) -> None:
    for role, split, positions in subject.splits():
        examples = split.take(positions)
        for name, array in examples.items():
            require(np.isfinite(array).all(), f"{role}: {name!r} must be finite")
        if "image" in examples:
            image = examples["image"]
            in_unit = image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
            require(image.dtype == np.uint8 or in_unit, f"{role}: images must be uint8 or float32 in [0, 1]")
            require(image.shape[1:] == subject.first.shape, f"{role}: images must be {subject.first.shape}")
        if "tokens" in examples:
            tokens, vocabulary = examples["tokens"], subject.first.vocabulary
            require(tokens.dtype == np.int32, f"{role}: tokens must be int32, got {tokens.dtype}")
            require(0 <= tokens.min() <= tokens.max() < vocabulary, f"{role}: tokens must be in [0, {vocabulary})")


def dense_labels_in_range(subject: ReadTwice) -> None:
    """Label maps have the size of their images, and boxes a positive area inside them."""
    if not {"label_map", "boxes"} & {*subject.first.fields}:
        raise NotApplicable("the labels are not dense")
    for role, split, positions in subject.splits():
        examples = split.take(positions)
        check_dense(examples, len(subject.first.class_names), role)
        if "label_map" in examples:
            shape = examples["label_map"].shape[1:]
            require(shape == subject.first.shape[:2], f"{role}: label maps must be as their images, got {shape}")
        if "boxes" in examples:
            top, left, bottom, right = np.moveaxis(examples["boxes"][examples["box_label"] != UNLABELLED], -1, 0)
            is_inside = (top >= 0) & (bottom > top) & (bottom <= 1) & (left >= 0) & (right > left) & (right <= 1)
            require(bool(is_inside.all()), f"{role}: boxes must be of positive area in [0, 1]")


def labels_of_classes(subject: ReadTwice) -> None:
    classes = len(subject.first.class_names)
    for role, split, positions in subject.splits():
        labels = split.labels()
        require(labels.dtype == np.int32, f"{role}: labels must be int32, got {labels.dtype}")
        require(labels.shape == (len(split),), f"{role}: labels must be [{len(split)}], got {list(labels.shape)}")
        require(
            labels.min() >= UNLABELLED and labels.max() < classes,
            f"{role}: labels must be in [0, {classes}) or {UNLABELLED}, got {labels.min()} to {labels.max()}",
        )
        examples = split.take(positions)
        if "label" in examples:
            require((examples["label"] == labels[positions]).all(), f"{role}: labels must be those of the examples")


def positions_alone(subject: ReadTwice) -> None:
    """An example is the same at its position, whichever positions it is taken with."""
    for role, split, positions in subject.splits():
        last, together = split.take(positions[:1]), split.take(positions)
        for name, array in last.items():
            require(np.array_equal(array[0], together[name][0]), f"{role}: {name!r} must depend on its position alone")


def same_examples_again(subject: ReadTwice) -> None:
    for role, split, positions in subject.splits():
        again = subject.second.split(role)
        require(len(again) == len(split), f"{role}: a second reading must have {len(split)} examples, got {len(again)}")
        others = again.take(positions)
        for name, array in split.take(positions).items():
            require(np.array_equal(array, others[name]), f"{role}: {name!r} must be the same when it is read again")


def stable_index(subject: ReadTwice) -> None:
    for role, split, positions in subject.splits():
        index = split.index(positions)
        require(index.dtype == np.int32, f"{role}: the index must be int32, got {index.dtype}")
        require(len(np.unique(index)) == len(positions), f"{role}: the index must differ between examples")
        require(index.min() >= 0 and index.max() < len(split.base), f"{role}: the index must be a position in the base")
        require((index == subject.second.split(role).index(positions)).all(), f"{role}: the index must be stable")


def different_splits(subject: ReadTwice) -> None:
    if len(subject.first.splits) == 1:
        raise NotApplicable("there is one split")
    splits = [*subject.first.splits.values()]
    require(len({id(split) for split in splits}) == len(splits), "splits must be different objects")


PROMISES = (
    Promise("there are splits, 'train' among them, and none is empty", splits_with_examples),
    Promise("fields have a row per position, one shape and one dtype in all splits", rows_of_fields),
    Promise("images and tokens are finite and in range", values_in_range),
    Promise("label maps and boxes are in range and in their images", dense_labels_in_range),
    Promise("labels are int32 and in range, and those of the examples", labels_of_classes),
    Promise("an example depends on its position alone", positions_alone),
    Promise("a second reading has the same examples", same_examples_again),
    Promise("the index of an example is unique and stable", stable_index),
    Promise("each role has a split of its own", different_splits),
)
