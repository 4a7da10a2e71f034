"""Values of columns: missing ones and numbers."""

import numpy as np
import pytest

from jaxdistill.data.tables.values import Columns, is_missing, parse_number, parse_numbers
from jaxdistill.errors import UserError


@pytest.mark.parametrize("value", [None, float("nan"), "", " NA ", "n/a", "NaN", "null", "None", "?"])
def test_missing_values(value):
    assert is_missing(value)


@pytest.mark.parametrize("value", [0, False, 0.0, "0", "no", float("inf")])
def test_values_that_are_there(value):
    assert not is_missing(value)


def test_numbers_are_not_literals_of_python():
    assert [parse_number(value) for value in ("1e3", " 2 ", True, np.float32(0.5))] == [1000, 2, 1, 0.5]
    assert [parse_number(value) for value in ("1_000", "x", None, [1])] == [None] * 4


def test_a_column_of_numbers():
    column = Columns({"x": ["1", "", None, 2.5]}, lambda row: f"row {row}")
    np.testing.assert_array_equal(parse_numbers("x", column), [1, np.nan, np.nan, 2.5])
    with pytest.raises(UserError, match="row 1 must have a finite number in column 'x', .* got '1e39'"):
        parse_numbers("x", Columns({"x": [1, "1e39"]}, lambda row: f"row {row}"))
