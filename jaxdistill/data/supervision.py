"""Supervision of examples from columns: one class, several labels, or numbers to be predicted."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.dataset import TARGET_CLASS, DatasetSettings, Target
from jaxdistill.data.labels import Place, check_indices, number_classes
from jaxdistill.data.spilled import gather
from jaxdistill.data.tables.table import mark_missing, measure
from jaxdistill.data.tables.values import Columns, parse_numbers, read_numbers
from jaxdistill.errors import UserError

SEPARATOR = "|"
"""Between the labels of a value in a CSV or TSV file."""

OTHER_LISTS = (",", ";", "[")
"""Marks of a list of labels that another program has written as a text."""

FLAGS = {"true": 1, "false": 0}
"""Words of a flag in a CSV, in small letters, as pandas writes booleans."""

KEYS = ("label", "labels", "target", "targets")
"""Keys of a `data` section that name columns of supervision, of which a config has one."""

SEVERAL = ("labels", "targets")
"""Those of them that name several labels or numbers of an example."""

Values = Mapping[str, Mapping[str, Sequence[Any]]]
"""Values of a split by column, by role."""


@dataclasses.dataclass(frozen=True)
class Supervision:
    """Labels or targets of the examples of each split.

    Attributes:
        label: int32 `[n]` by role: the class; beside `labels` or `target` 0, or -1 if all of them are missing.
        arrays: by role, nothing, `labels` float32 `[n, classes]` or `target` float32 `[n, targets]`.
        class_names: of the labels.
        targets: the columns of `target`.
    """

    label: Mapping[str, np.ndarray]
    arrays: Mapping[str, Mapping[str, np.ndarray]]
    class_names: tuple[str, ...]
    targets: tuple[Target, ...] = ()


NO_SUPERVISION = Supervision({}, {}, ())


def name_columns(settings: DatasetSettings, default: str = "") -> dict[str, str]:
    """Returns the columns of supervision, each with the config key that names it.

    Args:
        settings: with one of `KEYS`.
        default: the column of the classes if there is none of them; "" for no column.

    Raises:
        UserError: for several keys, and a column that is named twice.
    """
    named = {key: value for key in KEYS if (value := getattr(settings, key))}
    if len(named) > 1:
        raise UserError(f"data must have one of {[*KEYS]}, got {named}. Remove all but one of them")
    for key, value in named.items() or {"label": default}.items():
        columns = [value] if isinstance(value, str) else [*value]
        if repeated := [name for name in columns if columns.count(name) > 1]:
            raise UserError(f"data.{key} must name a column once, got {repeated[0]!r} twice. Remove one of them")
        return {name: f"data.{key}" for name in columns if name}
    return {}


def parse(values: Values, settings: DatasetSettings, place: Place, class_names: tuple[str, ...] = ()) -> Supervision:
    """Returns the supervision of splits from the columns of `name_columns`, of which there is at least one.

    Args:
        values: by role, `train` among them.
        settings: with one of `KEYS`.
        place: describes a row of a role in an error.
        class_names: if the column gives them in order; values are then indices, or lists of indices.

    Raises:
        UserError: for a value that is no class, label or number, with its row.
    """
    columns = [*values["train"]]
    values = {role: {name: gather(column) for name, column in part.items()} for role, part in values.items()}
    if settings.target or settings.targets:
        return _parse_targets(values, "data.target" if settings.target else "data.targets", place)
    if not settings.labels:
        classes = {role: part[columns[0]] for role, part in values.items()}
        numbered = check_indices(classes, len(class_names), place) if class_names else None
        names, label = (class_names, numbered) if numbered else number_classes(classes, place)
        return Supervision(label, {role: {} for role in values}, names)
    if len(columns) > 1:
        return _of_labels({role: _parse_flags(role, part, place) for role, part in values.items()}, tuple(columns))
    lists = {
        role: [_split(value, role, row, place) for row, value in enumerate(part[columns[0]])]
        for role, part in values.items()
    }
    names = class_names or _find_names(lists["train"])
    if all(isinstance(value, str) for value in values["train"][columns[0]]):
        _check_names(names, lists["train"], columns[0])
    keys = range(len(names)) if class_names else names
    flags = {role: _write_flags(role, part, [*map(str, keys)], place) for role, part in lists.items()}
    return _of_labels(flags, names)


def _of_labels(labels: Mapping[str, np.ndarray], names: tuple[str, ...]) -> Supervision:
    label = {role: mark_missing(array) for role, array in labels.items()}
    return Supervision(label, {role: {"labels": array} for role, array in labels.items()}, names)


def _parse_flags(role: str, part: Mapping[str, Sequence[Any]], place: Place) -> np.ndarray:
    """Returns columns of 0 and 1, NaN for a missing value, float32 `[n, classes]`."""
    columns = []
    for name, column in part.items():
        numbers = read_numbers(
            [FLAGS.get(value.strip().lower(), value) if isinstance(value, str) else value for value in column]
        )
        wrong = np.flatnonzero(~np.isin(numbers, (0, 1)) & ~np.isnan(numbers))
        if len(wrong):
            raise UserError(
                f"{place(role, int(wrong[0]))} must have 0 or 1, or true or false, in column {name!r} of data.labels,"
                f" got {column[wrong[0]]!r}. Correct it, or name a column of numbers in data.targets"
            )
        columns.append(numbers)
    return np.stack(columns, -1).astype(np.float32)


def _split(value: Any, role: str, row: int, place: Place) -> list[Any] | None:
    """Returns the labels of a value: a list, or a text of a CSV; `None` for a missing one."""
    if value is None:
        return None
    if isinstance(value, str):
        return [name.strip() for name in value.split(SEPARATOR) if name.strip()]
    if isinstance(value, list | tuple) and all(isinstance(name, str | int) for name in value):
        return [*value]
    raise UserError(
        f"{place(role, row)} must have a list of labels, or a text such as 'cat{SEPARATOR}dog', got"
        f" {str(value)[:60]!r}. Correct it, or name several columns of 0 and 1 in data.labels"
    )


def _find_names(lists: Sequence[Sequence[Any] | None]) -> tuple[str, ...]:
    names = {str(name) for labels in lists for name in labels or ()}
    if len(names) < 2:
        raise UserError(
            f"data.labels must have at least two classes in the training rows, got {sorted(names)}. Name another column"
        )
    are_numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=int if are_numbers else None))


def _check_names(names: Sequence[str], lists: Sequence[Sequence[Any] | None], column: str) -> None:
    """Raises `UserError` for texts of a CSV that are flags of one class, or lists with other marks than `SEPARATOR`."""
    if any(len(labels or ()) > 1 for labels in lists):
        return
    if {name.lower() for name in names} in ({"0", "1"}, {*FLAGS}):
        raise UserError(
            f"data.labels must name several columns of 0 and 1, or one of lists of names, got ({column!r},), a column"
            f" of {' and '.join(names)}. Set data.label={column!r}, which has two classes"
        )
    marked = [name for name in names if any(mark in name for mark in OTHER_LISTS)]
    if marked:
        raise UserError(
            f"data.labels must name a column of texts such as 'cat{SEPARATOR}dog', got {marked[0][:60]!r} in"
            f" {column!r}, and no row with {SEPARATOR!r}. Put {SEPARATOR!r} between labels, or write lists in a JSONL"
            " file"
        )


def _write_flags(role: str, lists: Sequence[Sequence[Any] | None], names: Sequence[str], place: Place) -> np.ndarray:
    """Returns lists of names as 0 and 1, NaN for a missing list, float32 `[n, classes]`."""
    numbers = {name: number for number, name in enumerate(names)}
    flags = np.zeros((len(lists), len(names)), np.float32)
    for row, labels in enumerate(lists):
        if labels is None:
            flags[row] = np.nan
        for label in labels or ():
            number = numbers.get(str(label))
            if number is None:
                raise UserError(
                    f"{place(role, row)} must have labels of the training rows, got {label!r}. There are"
                    f" {list(names[:20])}"
                )
            flags[row, number] = 1
    return flags


def _parse_targets(values: Values, key: str, place: Place) -> Supervision:
    columns = {
        role: [parse_numbers(name, Columns(part, lambda row, role=role: place(role, row)), key) for name in part]
        for role, part in values.items()
    }
    targets = tuple(
        standardisation(name, column) for name, column in zip(values["train"], columns["train"], strict=True)
    )
    arrays = {role: standardise(np.stack(part, -1), targets) for role, part in columns.items()}
    label = {role: mark_missing(array) for role, array in arrays.items()}
    return Supervision(label, {role: {"target": array} for role, array in arrays.items()}, (TARGET_CLASS,), targets)


def standardisation(name: str, column: np.ndarray) -> Target:
    """Returns mean and standard deviation of the numbers of a training split; a constant target has the scale 1."""
    present = column[~np.isnan(column)]
    if not len(present):
        raise UserError(f"target {name!r} must have numbers in the training split, got none. Name another column")
    return Target(name, *measure(present))


def standardise(numbers: np.ndarray, targets: Sequence[Target]) -> np.ndarray:
    """Returns numbers `[n, targets]` less their mean, divided by their scale, float32."""
    means, scales = ([getattr(target, key) for target in targets] for key in ("mean", "scale"))
    return ((numbers - np.array(means)) / np.array(scales)).astype(np.float32)
