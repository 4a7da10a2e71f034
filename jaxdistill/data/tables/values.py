"""Values of named columns: missing ones, and numbers."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.spilled import iterate
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


WORD = -math.inf
"""What `read_numbers` returns for a value that is no number."""


def read_numbers(values: Sequence[Any]) -> np.ndarray:
    """Returns values as float64 `[n]`: NaN for a missing one, `WORD` for a word, infinity for one beyond float32."""
    kinds, is_word = {*map(type, values)}, None
    try:
        if kinds == {str} and "_" not in "".join(values):
            numbers = np.array([float(value) if value else math.nan for value in values])
        elif kinds <= {float, int, bool, type(None)}:
            numbers = np.array(values, np.float64)
        else:
            raise ValueError
    except (ValueError, OverflowError):  # value by value, which is several times slower
        parsed = [math.nan if is_missing(value) else parse_number(value) for value in values]
        is_word = np.array([number is None for number in parsed])
        numbers = np.array(parsed, np.float64)  # None becomes NaN
    numbers[np.abs(numbers) > LARGEST] = math.inf
    return numbers if is_word is None else np.where(is_word, WORD, numbers)


def parse_numbers(name: str, part: Columns, key: str = "") -> np.ndarray:
    """Returns a column as float64, NaN for a missing value.

    Args:
        name: of the column.
        part: has its values.
        key: the config key that names it, if it is learned. Others have numbers alone in the training split.

    Raises:
        UserError: for a value that is no number, or that float32 cannot hold, with its row.
    """
    column = part.values[name]
    numbers = np.empty(len(column))
    for positions, values in iterate(column):
        numbers[positions] = read_numbers(values)
    wrong = np.flatnonzero(np.isinf(numbers))
    if len(wrong):
        why, remedy = (f" of {key}", ", or name a column of numbers") if key else (", as the training split has", "")
        raise UserError(
            f"{part.locate(int(wrong[0]))} must have a finite number in column {name!r}{why}, got"
            f" {str(column[int(wrong[0])])[:60]!r}. Correct it{',' if key else ', or'} leave it empty{remedy}"
        )
    return numbers
