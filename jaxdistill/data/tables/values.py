"""Values of named columns: missing ones, and numbers."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.tables.table import LARGEST
from jaxdistill.errors import UserError

MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?"])
"""Words of a missing value, in small letters."""

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


def is_missing(value: Any) -> bool:
    """Whether a value is missing."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def parse_number(value: Any) -> float | None:
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


def parse_numbers(name: str, part: Columns) -> np.ndarray:
    """Returns a column as float64, NaN for a missing value.

    Raises:
        UserError: for a value that is no number, or that float32 cannot hold, with its row.
    """
    numbers = np.full(len(part.values[name]), np.nan)
    for position, value in enumerate(part.values[name]):
        if is_missing(value):
            continue
        number = parse_number(value)
        if number is None or abs(number) > LARGEST:
            raise UserError(
                f"{part.locate(position)} must have a finite number in column {name!r}, as the training split has, got"
                f" {str(value)[:60]!r}. Correct it, or leave it empty"
            )
        numbers[position] = number
    return numbers
