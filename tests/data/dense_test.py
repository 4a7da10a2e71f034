"""Dense labels: their ranges, and the choice between masks and boxes."""

import numpy as np
import pytest

from jaxdistill.data.dense import check_dense, choose_annotations, pad_boxes
from jaxdistill.errors import UserError


@pytest.mark.parametrize("field", ["label_map", "box_label"])
@pytest.mark.parametrize("label", [-2, 3])
def test_classes_out_of_range_are_refused(field, label):
    check_dense({field: np.array([[-1, 0, 2]])}, 3, "a batch")
    with pytest.raises(UserError, match=rf"{field} of a batch must be in \[0, 3\) or -1, got "):
        check_dense({field: np.array([[-1, label, 2]])}, 3, "a batch")


def test_images_without_boxes_have_no_class_out_of_range():
    check_dense({"box_label": np.zeros((2, 0), np.int32)}, 1, "a batch")


def test_annotations_are_those_that_exist():
    assert choose_annotations("", ["boxes"], "a") == "boxes"
    assert choose_annotations("masks", ["masks", "boxes"], "a") == "masks"
    with pytest.raises(UserError, match=r"data.annotations must be one of \['boxes'\], .* of 'a', got 'masks'"):
        choose_annotations("masks", ["boxes"], "a")


def test_boxes_are_padded_to_a_number_of_rows():
    padded = pad_boxes(np.array([[0, 0.25, 1, 0.5]]), np.array([2]), np.array([1]), 2)
    np.testing.assert_array_equal(padded["boxes"], [[0, 0.25, 1, 0.5], [0, 0, 0, 0]])
    np.testing.assert_array_equal(padded["box_label"], [2, -1])
    np.testing.assert_array_equal(padded["box_crowd"], [1, 0])
