"""Types, missing values, labels and targets of named columns."""

import numpy as np
import pytest

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.tables.parse import Columns, make_tables
from jaxdistill.errors import UserError

TRAIN = {"age": ["3", "", "1e1"], "colour": ["red", "?", "blue"], "ok": [True, False, None], "kind": ["b", "a", "b"]}
TEST = {"age": [4, None, 5.5], "colour": ["green", "red", "NA"], "ok": [1, 0, 1], "kind": ["a", None, "b"]}


def parse(train=TRAIN, test=TEST, **settings):
    parts = {
        role: Columns(values, lambda position, role=role: f"row {position} of {role}")
        for role, values in {"train": train, "test": test}.items()
    }
    return make_tables(parts, DatasetSettings("table", **{"label": "kind"} | settings))


def test_numbers_strings_and_labels_with_missing_values():
    tables, class_names = parse()
    assert class_names == ("a", "b")
    train, test = tables["train"], tables["test"]
    assert train.names == ("age", "ok")
    assert [*train.strings] == ["colour"]
    np.testing.assert_array_equal(train.numbers, [[3, 1], [np.nan, 0], [10, np.nan]])
    np.testing.assert_array_equal(test.numbers, [[4, 1], [np.nan, 0], [5.5, 1]])
    assert train.strings["colour"].tolist() == ["red", "", "blue"]
    assert test.strings["colour"].tolist() == ["green", "red", ""]
    assert train.label.tolist() == [1, 0, 1]
    assert test.label.tolist() == [0, UNLABELLED, 1]


def test_columns_are_those_named_and_numbers_may_be_categories():
    train = parse(columns=("age:category",))[0]["train"]
    assert train.columns == ("age",)
    assert train.strings["age"].tolist() == ["3", "", "1e1"]


def test_classes_that_are_numbers_are_in_their_order():
    values = {"x": [1, 2, 3], "kind": ["10", "9", "2"]}
    assert parse(values, {"x": [1], "kind": [9.0]})[1] == ("2", "9", "10")
    assert parse(values, {"x": [1], "kind": [9.0]})[0]["test"].label.tolist() == [1]


def test_a_target_is_a_number_or_missing():
    tables, class_names = parse(label="", target="age")
    np.testing.assert_array_equal(tables["test"].target, [4, np.nan, 5.5])
    assert class_names == ()
    assert tables["test"].label is None
    assert tables["train"].names == ("ok",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": ""}, "data must have one of .* for a table, whose values are learned, got none"),
        ({"target": "age"}, r"data must have one of .*, got ..label.: 'kind', 'target': 'age'.. Remove all but one"),
        ({"label": "kin"}, "data.label must be a column, got 'kin'. Did you mean 'kind'"),
        ({"columns": ("agee",)}, "data.columns must be a column, got 'agee'. Did you mean 'age'"),
        ({"columns": ("kind",)}, "data.columns must be without 'kind', which is learned"),
        (
            {"train": TRAIN | {"age": ["3", "old", "4"]}},
            "'age' must have numbers alone or words alone, got '3' in row 0 of train and 'old' in row 1 of tr",
        ),
        ({"test": TEST | {"age": [1, "x", 2]}}, "row 1 of test must have a finite number in column 'age', .* got 'x'"),
        (
            {"test": TEST | {"age": [1, "inf", 2]}},
            "row 1 of test must have a finite number in column 'age', .* 'inf'",
        ),
        *(
            ({"test": TEST | {"age": [1, large, 2]}}, "row 1 of test must have a finite number in column 'age'")
            for large in ("1e39", "-1e300", 10**400)
        ),
        ({"test": TEST | {"kind": ["a", "c", "b"]}}, "'kind' in row 1 of test must be a class of the training split"),
        ({"train": TRAIN | {"kind": ["a", "", "a"]}}, "must have at least two classes in the training split, got"),
    ],
)
def test_columns_that_do_not_fit_are_refused_with_their_row(changes, message):
    with pytest.raises(UserError, match=message):
        parse(**changes)


def test_an_infinite_number_may_be_a_category():
    values = {"x": [float("inf"), 2.0, float("inf")], "kind": ["a", "b", "a"]}
    assert parse(values, values, columns=("x:category",))[0]["train"].strings["x"].tolist() == ["inf", "2", "inf"]
