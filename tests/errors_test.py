"""Messages of mistakes: the path, the constraint, the value, and the nearest name."""

import pytest

from jaxdistill import errors
from jaxdistill.errors import UserError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.unknown("x", "ddk", ["kd", "dkd"]), "x must be an existing name, got 'ddk'. Did you mean 'dkd'? There"),
        (errors.unknown("x", "far", ["kd"], "a method"), "x must be a method, got 'far'. There are ['kd']"),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_the_list(error, text):
    assert isinstance(error, UserError)
    assert str(error).startswith(text)
    assert str(error).endswith("]")


@pytest.mark.parametrize(
    ("value", "default"), [(3, 1), (3, 1.0), (0.5, 1.0), ([1], (2,)), ({}, {"a": 1}), (True, False), ("a", None)]
)
def test_values_of_the_kind_of_the_default_pass(value, default):
    errors.check_kind("x", value, default)


@pytest.mark.parametrize(
    ("value", "default", "text"),
    [
        (0.5, 1, "x must be an int such as 1, got 0.5 (float)"),
        (True, 1, "x must be an int such as 1, got True (bool)"),
        (True, 1.0, "x must be a float such as 1.0, got True (bool)"),
        (1, False, "x must be a bool such as False, got 1 (int)"),
        ("wide", (512, 512), "x must be a tuple such as (512, 512), got 'wide' (str)"),
        (3, {}, "x must be a section, got 3 (int)"),
    ],
)
def test_values_of_another_kind_are_refused(value, default, text):
    with pytest.raises(UserError) as caught:
        errors.check_kind("x", value, default)
    assert str(caught.value) == text


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "bounds", "valid", "invalid"),
    [
        (errors.check_fraction, (), (0, 0.99), (-0.1, 1, NAN)),
        (errors.check_least, (2,), (2, 1e9), (1, INF, NAN)),
        (errors.check_positive, (), (1e-9, 3), (0, -1, INF, NAN)),
        (errors.check_between, (1, 2), (1, 2), (0.9, 2.1, NAN)),
    ],
)
def test_bounds(check, bounds, valid, invalid):
    for value in valid:
        check("x", value, *bounds)
    for value in invalid:
        with pytest.raises(UserError, match=rf"^x must be .*, got {value}$"):
            check("x", value, *bounds)


def test_the_first_missing_name_is_reported():
    errors.check_names("x", ["a"], ["a", "b"])
    with pytest.raises(UserError, match="x must be an existing name, got 'c'"):
        errors.check_names("x", ["a", "c", "d"], ["a", "b"])
