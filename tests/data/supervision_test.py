"""Labels and targets from columns, by hand, and the row of each mistake."""

import numpy as np
import pytest

from jaxdistill.data import supervision
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.errors import UserError


def place(role, row):
    return f"row {row} of {role}"


def parse(train, test=None, names=(), **settings):
    values = {"train": train} | ({"test": test} if test else {})
    return supervision.parse(values, DatasetSettings("images", **settings), place, names)


def test_lists_and_texts_of_labels_become_zeros_and_ones():
    lists = [["dog", "cat"], [], None, ["cat"]]
    found = parse({"tags": lists}, {"tags": ["cat | dog", ""]}, labels=("tags",))
    assert found.class_names == ("cat", "dog")
    np.testing.assert_array_equal(found.arrays["train"]["labels"], [[1, 1], [0, 0], [np.nan] * 2, [1, 0]])
    assert found.label["train"].tolist() == [0, 0, -1, 0]
    np.testing.assert_array_equal(found.arrays["test"]["labels"], [[1, 1], [0, 0]])


def test_lists_of_indices_have_the_order_of_given_classes():
    found = parse({"tags": [[1], [0, 2]]}, names=("b", "a", "c"), labels=("tags",))
    assert found.class_names == ("b", "a", "c")
    np.testing.assert_array_equal(found.arrays["train"]["labels"], [[0, 1, 0], [1, 0, 1]])


def test_columns_of_flags_are_classes_and_a_missing_one_is_unknown():
    found = parse({"red": ["True", "0", ""], "big": [True, None, None]}, labels=("red", "big"))
    assert found.class_names == ("red", "big")
    np.testing.assert_array_equal(found.arrays["train"]["labels"], [[1, 1], [0, np.nan], [np.nan] * 2])
    assert found.label["train"].tolist() == [0, 0, -1]


def test_targets_are_standardised_by_the_training_rows():
    found = parse({"age": [1, 3, None], "size": [5, 5, 5]}, {"age": [4], "size": [7]}, targets=("age", "size"))
    assert [(target.name, target.mean, target.scale) for target in found.targets] == [("age", 2, 1), ("size", 5, 1)]
    np.testing.assert_array_equal(found.arrays["train"]["target"], [[-1, 0], [1, 0], [np.nan, 0]])
    np.testing.assert_array_equal(found.arrays["test"]["target"], [[2, 2]])
    assert found.label["train"].tolist() == [0, 0, 0]


def test_equal_targets_whose_mean_is_rounded_have_the_scale_1():
    found = parse({"age": ["0.1"] * 7}, {"age": ["0.2"]}, targets=("age",))
    assert found.targets[0].scale == 1
    np.testing.assert_allclose(found.arrays["test"]["target"], [[0.1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "columns", "message"),
    [
        ({"labels": ("a", "b")}, {"a": [0, 2], "b": [0, 1]}, "row 1 of train must have 0 or 1, .* column 'a'.*got 2"),
        ({"labels": ("a",)}, {"a": [["x", "y"], 3.5]}, "row 1 of train must have a list of labels, .*'cat|dog', got"),
        ({"labels": ("a",)}, {"a": [["x"], ["x"]]}, "must have at least two classes in the training rows, got .'x'."),
        (
            {"labels": ("a",)},
            {"a": ["1", "0", ""]},
            "data.labels must name several columns .*got .'a',., .*data.label='a'",
        ),
        (
            {"labels": ("a",)},
            {"a": ["x,y", "x"]},
            "must name a column of texts such as 'cat|dog', got 'x,y' in 'a', and no",
        ),
        (
            {"labels": ("a", "b")},
            {"a": ["no", "yes"], "b": [0, 1]},
            "row 0 .* 0 or 1, or true .* data.labels, got 'no'",
        ),
        (
            {"targets": ("a",)},
            {"a": ["1", "old"]},
            "row 1 of train must have a finite number in column 'a' of data.targets, got 'old'",
        ),
        ({"target": "a"}, {"a": ["old"]}, "in column 'a' of data.target, got 'old'. Correct it, .* name a column"),
        ({"targets": ("a",)}, {"a": [None, None]}, "target 'a' must have numbers in the training split, got none"),
    ],
)
def test_mistakes(settings, columns, message):
    with pytest.raises(UserError, match=message):
        parse(columns, **settings)


def test_labels_that_no_training_row_has_are_refused():
    with pytest.raises(UserError, match=r"row 0 of test must have labels of the training rows, got 'z'. There are"):
        parse({"a": [["x", "y"]]}, {"a": [["z"]]}, labels=("a",))


def test_columns_are_named_by_one_key():
    settings = DatasetSettings("images", labels=("a", "b"))
    assert supervision.name_columns(settings, "label") == {"a": "data.labels", "b": "data.labels"}
    assert supervision.name_columns(DatasetSettings("images"), "label") == {"label": "data.label"}
    with pytest.raises(UserError, match="data must have one of .*, got .*'target'"):
        supervision.name_columns(DatasetSettings("images", label="a", target="b"))
    with pytest.raises(UserError, match="data.targets must name a column once, got 'a' twice"):
        supervision.name_columns(DatasetSettings("images", targets=("a", "a")))
