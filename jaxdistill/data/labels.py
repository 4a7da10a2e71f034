"""Numbers of classes from the values of a column."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.errors import UserError

FEW = 20
"""Number of classes up to which any column may hold labels."""

Place = Callable[[str, int], str]
"""Returns the words for the row of a role at a position, such as `row 3 of reviews.csv`."""


def number_classes(values: Mapping[str, Sequence[Any]], place: Place) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Numbers the classes of labels: the values of the training rows, sorted, as numbers if all of them are.

    Args:
        values: strings, integers or booleans by role, `train` among them.
        place: describes a row in an error.

    Returns:
        The names of the classes, and the labels by role, int32 `[rows]`.

    Raises:
        UserError: for a missing label, a mixture of types, a class without training rows, and a column of no labels.
    """
    kind = type(values["train"][0])
    for role, column in values.items():
        for position, value in enumerate(column):
            _check_label(value, kind, role, position, place=place)
    train = values["train"]
    counts = Counter(train)
    if len(counts) < 2 or (len(counts) > FEW and len(counts) > len(train) / 2):
        raise UserError(
            f"data.label must have at least two classes, and rows of each, got {len(counts)} values in"
            f" {len(train)} rows, such as {[*counts][:3]}. Name another column"
        )
    are_numbers = kind is str and all(re.fullmatch(r"[+-]?\d+", value) for value in counts)
    classes = sorted(counts, key=int if are_numbers else None)
    numbers = {value: number for number, value in enumerate(classes)}
    for role, column in values.items():
        for position, value in enumerate(column):
            if value not in numbers:
                raise UserError(
                    f"{place(role, position)} must have one of the {len(classes)} classes of the training rows, got"
                    f" {value!r}. There are {[*map(str, classes[:20])]}"
                )
    labels = {role: np.array([numbers[value] for value in column], np.int32) for role, column in values.items()}
    return tuple(map(str, classes)), labels


def check_indices(values: Mapping[str, Sequence[Any]], classes: int, place: Place) -> dict[str, np.ndarray]:
    """Returns labels that are indices of given classes, int32 `[rows]` by role.

    Args:
        values: integers by role.
        classes: the number of the classes.
        place: describes a row in an error.

    Raises:
        UserError: for a label that is missing, as `datasets` writes -1 for, or beyond the classes.
    """
    for role, column in values.items():
        for position, value in enumerate(column):
            if not isinstance(value, int) or not 0 <= value < classes:
                raise UserError(
                    f"{place(role, position)} must have a label of 0 to {classes - 1}, got {value!r}. Fill it in,"
                    " remove the row, or name the splits that have labels in data.splits"
                )
    return {role: np.array(column, np.int32) for role, column in values.items()}


def _check_label(value: Any, kind: type, role: str, position: int, *, place: Place) -> None:
    if value is None or value == "":
        raise UserError(
            f"{place(role, position)} must have a label, got {value!r}. Fill it in, or remove the row; unlabelled texts"
            " are a set without data.label"
        )
    if not isinstance(value, str | int):
        raise UserError(
            f"{place(role, position)} must have a string or an integer as label, got {value!r}"
            f" ({type(value).__name__}). Convert the column"
        )
    if type(value) is not kind:
        raise UserError(
            f"{place(role, position)} must have a label of the type {kind.__name__}, as the first training row has, got"
            f" {value!r} ({type(value).__name__}). Convert the column"
        )
