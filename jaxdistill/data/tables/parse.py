"""Tables from named columns of values, as files and datasets hold them: types, missing values, labels and targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.spilled import ArrayWriter, is_mapped, iterate
from jaxdistill.data.supervision import KEYS, name_columns
from jaxdistill.data.supervision import parse as parse_supervision
from jaxdistill.data.tables.categories import hold
from jaxdistill.data.tables.table import Strings, Table
from jaxdistill.data.tables.values import WORD, Columns, is_missing, parse_number, parse_numbers, read_numbers
from jaxdistill.errors import UserError, unknown

CATEGORY = ":category"
"""Ending of a column in `data.columns` whose numbers are categories."""

NO_CLASS = UNLABELLED - 1
"""The code of a label that is no class, until it is refused."""


def make_tables(
    parts: Mapping[str, Columns], settings: DatasetSettings, class_names: Sequence[str] = ()
) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Returns a table for each split, and the names of the classes; none for targets.

    A column is of numbers if all its values are numbers in the training split, and of strings if none is. Booleans are
    0 and 1. The classes are the labels of the training split in order, numbers before words; those of `labels` are as
    `supervision.parse` has them.

    Args:
        parts: columns by role, `train` among them.
        settings: one of `supervision.KEYS`, and `columns`; all other columns are features if there are none.
        class_names: of the column `label`, if they are given and not to be found.

    Raises:
        UserError: for a column that does not exist or mixes numbers and words, and for labels that do not fit.
    """
    train = parts["train"]
    answers = name_columns(settings)
    if not answers:
        raise UserError(
            f"data must have one of {[*KEYS]} for a table, whose values are learned, got none. There are"
            f" {[*train.values]}"
        )
    wanted = [name.removesuffix(CATEGORY) for name in settings.columns]
    for name in (*answers, *wanted):
        if name not in train.values:
            raise unknown(answers.get(name, "data.columns"), name, train.values, "a column")
    if learned := [name for name in answers if name in wanted]:
        raise UserError(f"data.columns must be without {learned[0]!r}, which is learned, got {wanted}. Leave it out")
    forced = {name.removesuffix(CATEGORY) for name in settings.columns if name.endswith(CATEGORY)}
    features = wanted or [name for name in train.values if name not in answers]
    are_numbers = {name: name not in forced and _are_numbers(name, train) for name in features}
    arrays, names = _parse_answers(parts, settings, tuple(answers), tuple(class_names))
    return {role: _make_table(part, are_numbers, arrays[role]) for role, part in parts.items()}, names


def _parse_answers(
    parts: Mapping[str, Columns], settings: DatasetSettings, answers: tuple[str, ...], class_names: tuple[str, ...]
) -> tuple[dict[str, dict[str, np.ndarray]], tuple[str, ...]]:
    """Returns the arrays of a `Table` that hold what is learned, by role, and the names of the classes."""
    if settings.labels:
        values = {role: {name: part.values[name] for name in answers} for role, part in parts.items()}
        supervision = parse_supervision(values, settings, lambda role, row: parts[role].locate(row))
        return {role: dict(arrays) for role, arrays in supervision.arrays.items()}, supervision.class_names
    if settings.label:
        names = class_names or _class_names(parts["train"], settings.label)
        return {role: {"label": _parse_labels(part, settings.label, names)} for role, part in parts.items()}, names
    if settings.target:
        return {
            role: {"target": parse_numbers(settings.target, part, "data.target")} for role, part in parts.items()
        }, ()
    numbers = {role: [parse_numbers(name, part, "data.targets") for name in answers] for role, part in parts.items()}
    return {role: {"target": np.stack(columns, 1)} for role, columns in numbers.items()}, ()


def _make_table(part: Columns, are_numbers: Mapping[str, bool], learned: Mapping[str, np.ndarray]) -> Table:
    numeric, writer = [name for name, is_number in are_numbers.items() if is_number], ArrayWriter()
    for name in numeric:
        writer.append(parse_numbers(name, part))
    strings = {name: _parse_strings(part.values[name]) for name, number in are_numbers.items() if not number}
    count = len(next(iter(part.values.values())))
    matrix = writer.finish().reshape(len(numeric), count).T if numeric else np.zeros((count, 0))
    return Table(matrix if is_mapped(matrix) else np.ascontiguousarray(matrix), tuple(numeric), strings, **learned)


def _are_numbers(name: str, part: Columns) -> bool:
    """Whether the values of a column are numbers; `UserError` if some are and some are not."""
    first: dict[bool, int] = {}
    for positions, values in iterate(part.values[name]):
        numbers = read_numbers(values)
        for is_number, chosen in ((True, ~np.isnan(numbers) & (numbers != WORD)), (False, numbers == WORD)):
            rows = positions[chosen]
            if len(rows):
                first[is_number] = min(int(rows.min()), first.get(is_number, len(part.values[name])))
    if len(first) > 1:
        number, word = (f"{part.values[name][first[kind]]!r} in {part.locate(first[kind])}" for kind in (True, False))
        raise UserError(
            f"column {name!r} must have numbers alone or words alone, got {number} and {word}. Correct the file, or set"
            f" data.columns with '{name}{CATEGORY}' if its numbers are categories"
        )
    return first.keys() != {False}


def _word(value: Any) -> str:
    """Returns a category as a string, the same for 3, 3.0 and "3"."""
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return value.strip()
    is_whole = isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if is_whole else str(value)


def _parse_strings(values: Sequence[Any]) -> Strings:
    return np.array([_word(value) for value in values], np.str_) if isinstance(values, list) else hold(values, _word)


def _class_names(train: Columns, column: str) -> tuple[str, ...]:
    names = {_word(value) for _, values in iterate(train.values[column]) for value in values} - {""}
    if len(names) < 2:
        raise UserError(f"column {column!r} must have at least two classes in the training split, got {sorted(names)}")
    numbers = {name: parse_number(name) for name in names}
    return tuple(sorted(names, key=lambda name: (numbers[name] is None, numbers[name] or 0.0, name)))


def _parse_labels(part: Columns, column: str, class_names: Sequence[str]) -> np.ndarray:
    codes = {name: code for code, name in enumerate(class_names)} | {"": UNLABELLED}
    label = np.empty(len(part.values[column]), np.int32)
    for positions, values in iterate(part.values[column]):
        label[positions] = [codes.get(_word(value), NO_CLASS) for value in values]
    wrong = np.flatnonzero(label == NO_CLASS)
    if len(wrong):
        row = int(wrong[0])
        word = _word(part.values[column][row])
        raise unknown(f"{column!r} in {part.locate(row)}", word, class_names, "a class of the training split")
    return label
