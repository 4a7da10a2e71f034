"""Several labels or numbers of each example, as arrays `ROLE_labels` and `ROLE_target` of an `.npz`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import TARGET_CLASS
from jaxdistill.data.supervision import NO_SUPERVISION, Supervision, standardisation, standardise
from jaxdistill.data.tables.table import LARGEST, mark_missing
from jaxdistill.errors import UserError

FIELDS = ("labels", "target")
"""Arrays of a split: labels `[n, classes]`, and targets `[n]` or `[n, targets]`."""

NAMES = "target_names"
"""The array of the names of several targets."""


def read_supervision(path: str, arrays: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> Supervision:
    """Returns the supervision of images or texts; `NO_SUPERVISION` without arrays of `FIELDS`.

    Args:
        path: of the file, for messages.
        arrays: by their names in the file.
        counts: the number of examples of each role.

    Raises:
        UserError: for a role without the array, several of them, and arrays that do not fit.
    """
    present = [field for field in ("label", *FIELDS) if any(f"{role}_{field}" in arrays for role in counts)]
    if not {*FIELDS} & {*present}:
        return NO_SUPERVISION
    check_only(path, present, arrays, [*counts])
    (field,) = present
    names = {role: f"{role}_{field}" for role in counts}
    if field == "labels":
        labels = {role: check_labels(path, names[role], arrays[names[role]], count) for role, count in counts.items()}
        classes = name_columns(path, "class_names", arrays, {role: x.shape[1] for role, x in labels.items()})
        label = {role: mark_missing(x) for role, x in labels.items()}
        return Supervision(label, {role: {"labels": x} for role, x in labels.items()}, classes)
    numbers = {
        role: check_targets(path, names[role], arrays[names[role]], count).reshape(count, -1)
        for role, count in counts.items()
    }
    columns = name_columns(path, NAMES, arrays, {role: x.shape[1] for role, x in numbers.items()})
    targets = tuple(standardisation(name, x) for name, x in zip(columns, numbers["train"].T, strict=True))
    fields = {role: {"target": standardise(x, targets)} for role, x in numbers.items()}
    label = {role: mark_missing(x) for role, x in numbers.items()}
    return Supervision(label, fields, (TARGET_CLASS,), targets)


def check_only(path: str, present: Sequence[str], arrays: Mapping[str, Any], roles: Sequence[str]) -> None:
    """Raises `UserError` unless there is one field of supervision, and every role has it."""
    if len(present) != 1:
        raise UserError(
            f"{path} must have one of train_label, train_labels and train_target, got {sorted(arrays)}. Save one"
        )
    missing = [role for role in roles if f"{role}_{present[0]}" not in arrays]
    if missing:
        raise UserError(f"{path} must have a {present[0]} for each of {[*roles]}, got none for {missing}. Add it")


def check_labels(path: str, name: str, array: np.ndarray, count: int) -> np.ndarray:
    """Returns labels as float32 `[n, classes]`, NaN for a missing one.

    Raises:
        UserError: for another shape, and for values that are none of 0, 1, and -1 or NaN for a missing one.
    """
    if array.ndim != 2 or array.shape[0] != count or array.shape[1] < 2:
        raise UserError(
            f"{path} must have {name!r} [{count}, classes] of at least two classes, got {list(array.shape)}. Correct"
            " it, or save one class of each example as integers in 'label'"
        )
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise UserError(f"{path} must have {name!r} of 0 and 1, got {array.dtype}. Save numbers")
    labels = array.astype(np.float32)
    labels = np.where(labels == UNLABELLED, np.nan, labels).astype(np.float32)
    wrong = np.argwhere(~np.isin(labels, (0, 1)) & ~np.isnan(labels))
    if len(wrong):
        row, column = wrong[0]
        raise UserError(
            f"{path} must have {name!r} of 0 and 1, -1 or NaN if missing, got {array[row, column]} in example {row}."
            " Correct it, or save numbers as 'target'"
        )
    return labels


def check_targets(path: str, name: str, array: np.ndarray, count: int) -> np.ndarray:
    """Returns targets as float64, `[n]` or `[n, targets]`, NaN for a missing one.

    Raises:
        UserError: for another shape or type, and for numbers that float32 cannot hold.
    """
    if array.ndim not in (1, 2) or array.shape[0] != count or not array.size:
        raise UserError(
            f"{path} must have {name!r} [{count}] or [{count}, targets], got {list(array.shape)}. Correct it"
        )
    if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{path} must have {name!r} of numbers, got {array.dtype}. Save numbers")
    numbers = array.astype(np.float64)
    large = np.argwhere(np.abs(numbers) > LARGEST)
    if len(large):
        raise UserError(
            f"{path} must have {name!r} of finite numbers of float32, NaN if missing, got {array[tuple(large[0])]}"
            f" in example {large[0][0]}. Correct it"
        )
    return numbers


def name_columns(path: str, key: str, arrays: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> tuple[str, ...]:
    """Returns the names of the columns of arrays `[n, columns]`; numbers if the file has none.

    Raises:
        UserError: for roles with different numbers of columns, and for names of another number.
    """
    if len({*counts.values()}) > 1:
        raise UserError(f"{path} must have equal numbers of columns in all splits, got {dict(counts)}. Correct it")
    count = counts["train"]
    prefix = "target" if key == NAMES else ""
    if key not in arrays:
        return ("target",) if prefix and count == 1 else tuple(f"{prefix}{number}" for number in range(count))
    names = tuple(map(str, np.atleast_1d(arrays[key])))
    if len(names) != count or len({*names}) < count:
        raise UserError(f"{path} must have {key!r} with {count} different names, got {[*names]}. Correct it")
    return names
