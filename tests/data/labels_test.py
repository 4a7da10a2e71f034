"""Classes from values: their order, and the columns that are refused."""

import numpy as np
import pytest

from jaxdistill.data.labels import number_classes
from jaxdistill.errors import UserError


def number(train, **others):
    return number_classes({"train": train, **others}, lambda role, position: f"{role} row {position}")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["b", "a", "B"], ("B", "a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([10, 9, -1], ("-1", "9", "10")),
        ([True, False, True], ("False", "True")),
    ],
)
def test_classes_are_sorted_as_numbers_if_all_are(values, names):
    class_names, labels = number(values, test=values[:1])
    assert class_names == names
    assert [class_names[label] for label in labels["train"]] == [*map(str, values)]
    np.testing.assert_array_equal(labels["test"], labels["train"][:1])
    assert labels["test"].dtype == np.int32


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (["a", "b"], ["c"], "test row 0 must have one of the 2 classes of the training rows, got 'c'"),
        (["a", "b"], ["a", ""], "test row 1 must have a label, got ''"),
        (["a", 1], ["a"], r"train row 1 must have a label of the type str.*got 1 \(int\)"),
        ([1.0, 2.0], [1.0], r"train row 0 must have a string or an integer as label, got 1.0 \(float\)"),
        (["a", "a"], ["a"], "data.label must have at least two classes"),
        ([*range(22)], [0], r"got 22 values in 22 rows, such as \[0, 1, 2\]"),
    ],
)
def test_mistakes(train, test, message):
    with pytest.raises(UserError, match=message):
        number(train, test=test)
