"""Tables from named columns of values, as files and datasets hold them: types, missing values, labels and targets."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.tables.table import LARGEST, Table
from jaxdistill.errors import UserError, unknown

MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?"])
"""Words of a missing value, in small letters."""

CATEGORY = ":category"
"""Ending of a column in `data.columns` whose numbers are categories."""

Locate = Callable[[int], str]
"""Returns the words for a row in an error."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of one split.

    Attributes:
        values: by column, of equal lengths.
        locate: names a row, for errors.
    """

    values: Mapping[str, Sequence[Any]]
    locate: Locate


def make_tables(
    parts: Mapping[str, Columns], settings: DatasetSettings, class_names: Sequence[str] = ()
) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Returns a table for each split, and the names of the classes; none for targets.

    A column is of numbers if all its values are numbers in the training split, and of strings if none is. Booleans are
    0 and 1. The classes are the labels of the training split in order, numbers before words.

    Args:
        parts: columns by role, `train` among them.
        settings: `label` or `target`, and `columns`; all other columns are features if there are none.
        class_names: of the labels, if they are given and not to be found.

    Raises:
        UserError: for a column that does not exist or mixes numbers and words, and for labels that do not fit.
    """
    train = parts["train"]
    if bool(settings.label) == bool(settings.target):
        raise UserError(
            f"data.label or data.target must name a column, one of the two, got label={settings.label!r} and"
            f" target={settings.target!r}. There are {[*train.values]}"
        )
    answer = settings.label or settings.target
    wanted = [name.removesuffix(CATEGORY) for name in settings.columns]
    keys = {answer: "data.label" if settings.label else "data.target"}
    for name in (answer, *wanted):
        if name not in train.values:
            raise unknown(keys.get(name, "data.columns"), name, train.values, "a column")
    if answer in wanted:
        raise UserError(f"data.columns must be without {answer!r}, which is learned, got {wanted}. Leave it out")
    forced = {name.removesuffix(CATEGORY) for name in settings.columns if name.endswith(CATEGORY)}
    names = wanted or [name for name in train.values if name != answer]
    are_numbers = {name: name not in forced and _are_numbers(name, train) for name in names}
    class_names = (tuple(class_names) or _class_names(train, answer)) if settings.label else ()
    tables = {role: _make_table(part, settings, are_numbers, class_names) for role, part in parts.items()}
    return tables, class_names


def _make_table(
    part: Columns, settings: DatasetSettings, are_numbers: Mapping[str, bool], class_names: Sequence[str]
) -> Table:
    numeric = [name for name, is_number in are_numbers.items() if is_number]
    numbers = [parse_numbers(name, part) for name in numeric]
    strings = {name: _parse_strings(part.values[name]) for name, number in are_numbers.items() if not number}
    count = len(next(iter(part.values.values())))
    matrix = np.stack(numbers, 1) if numbers else np.zeros((count, 0))
    if settings.target:
        return Table(matrix, tuple(numeric), strings, target=parse_numbers(settings.target, part))
    return Table(matrix, tuple(numeric), strings, label=_parse_labels(part, settings.label, class_names))


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    """Returns a value as a number; `None` if it is none."""
    if isinstance(value, str):
        # float() also takes the separators of Python's own literals.
        if "_" in value:
            return None
    elif not isinstance(value, bool | int | float | np.number):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:  # an integer of JSON has any number of digits
        return math.inf


def _are_numbers(name: str, part: Columns) -> bool:
    """Whether the values of a column are numbers; `UserError` if some are and some are not."""
    first: dict[bool, int] = {}
    for position, value in enumerate(part.values[name]):
        if not _is_missing(value):
            first.setdefault(_number(value) is not None, position)
    if len(first) > 1:
        number, word = (f"{part.values[name][first[kind]]!r} in {part.locate(first[kind])}" for kind in (True, False))
        raise UserError(
            f"column {name!r} must have numbers alone or words alone, got {number} and {word}. Correct the file, or set"
            f" data.columns with '{name}{CATEGORY}' if its numbers are categories"
        )
    return first.keys() != {False}


def parse_numbers(name: str, part: Columns) -> np.ndarray:
    """Returns a column as float64, NaN for a missing value.

    Raises:
        UserError: for a value that is no number, or that float32 cannot hold, with its row.
    """
    numbers = np.full(len(part.values[name]), np.nan)
    for position, value in enumerate(part.values[name]):
        if _is_missing(value):
            continue
        number = _number(value)
        if number is None or abs(number) > LARGEST:
            raise UserError(
                f"{part.locate(position)} must have a finite number in column {name!r}, as the training split has, got"
                f" {str(value)[:60]!r}. Correct it, or leave it empty"
            )
        numbers[position] = number
    return numbers


def _word(value: Any) -> str:
    """Returns a category as a string, the same for 3, 3.0 and "3"."""
    if _is_missing(value):
        return ""
    if isinstance(value, str):
        return value.strip()
    return str(int(value)) if isinstance(value, bool | int | float) and value == int(value) else str(value)


def _parse_strings(values: Sequence[Any]) -> np.ndarray:
    return np.array([_word(value) for value in values], dtype=np.str_)


def _class_names(train: Columns, column: str) -> tuple[str, ...]:
    names = {_word(value) for value in train.values[column]} - {""}
    if len(names) < 2:
        raise UserError(f"column {column!r} must have at least two classes in the training split, got {sorted(names)}")
    numbers = {name: _number(name) for name in names}
    return tuple(sorted(names, key=lambda name: (numbers[name] is None, numbers[name] or 0.0, name)))


def _parse_labels(part: Columns, column: str, class_names: Sequence[str]) -> np.ndarray:
    codes = {name: code for code, name in enumerate(class_names)} | {"": UNLABELLED}
    words = [_word(value) for value in part.values[column]]
    for position, word in enumerate(words):
        if word not in codes:
            raise unknown(f"{column!r} in {part.locate(position)}", word, class_names, "a class of the training split")
    return np.array([codes[word] for word in words], np.int32)
