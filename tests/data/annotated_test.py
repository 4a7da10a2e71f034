"""Images with masks or boxes: sizes, void, boxes that are clipped or left out, and mistakes."""

import numpy as np
import pytest

from jaxdistill.data.annotated import (
    AnnotatedImage,
    Boxes,
    ExampleForm,
    check_boxes,
    choose_size,
    choose_values,
    largest_value,
)
from jaxdistill.data.dataset import DenseSettings
from jaxdistill.errors import UserError

IMAGE = np.arange(16 * 3, dtype=np.uint8).reshape(4, 4, 3)
MASK = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [3, 3, 9, 9], [3, 3, 9, 9]], np.uint8)
FORM = ExampleForm((4, 4), 0, 3, values=(0, 1, 3), void=(9,), most=2)


def test_values_become_classes_and_void():
    fields = FORM.make_fields(AnnotatedImage(IMAGE, "a.png", MASK))
    np.testing.assert_array_equal(fields["image"], IMAGE)
    np.testing.assert_array_equal(fields["label_map"][::2, ::2], [[0, 1], [2, -1]])
    assert fields["label_map"].dtype == np.int32


@pytest.mark.parametrize("size", [(2, 2), (8, 4), (2, 8)])
def test_masks_are_resized_by_the_nearest_pixel(size):
    form = ExampleForm(size, 1, 3, values=(0, 1, 3), void=(9,), most=2)
    fields = form.make_fields(AnnotatedImage(IMAGE, "a.png", MASK))
    assert fields["image"].shape == (*size, 1)
    quarters = np.array([[0, 1], [2, -1]])
    np.testing.assert_array_equal(fields["label_map"], np.kron(quarters, np.ones((size[0] // 2, size[1] // 2), int)))


def test_the_nearest_pixel_is_that_at_the_centre():
    form = ExampleForm((4, 2), 1, 3, values=(0, 1, 3), void=(9,))
    mask = np.tile(np.array([0, 1, 3, 9]), (4, 1))
    np.testing.assert_array_equal(form.make_fields(AnnotatedImage(IMAGE, "a.png", mask))["label_map"], [[1, -1]] * 4)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK[:3], r"the mask of a.png must be as its image, 4 x 4, with one value per pixel, got \[3, 4\]"),
        (np.stack([MASK] * 3, -1), r"with one value per pixel, got \[4, 4, 3\]"),
        (MASK + 1, r"values of the 3 classes, \[0, 1, 3\], or of data.void=\(9,\), got \[2, 4, 10\]. Add them to"),
    ],
)
def test_wrong_masks_are_refused(mask, message):
    with pytest.raises(UserError, match=message):
        FORM.make_fields(AnnotatedImage(IMAGE, "a.png", mask))


def test_boxes_are_clipped_and_those_of_zero_area_left_out():
    corners = [[-0.2, 0.5, 0.5, 1.5], [0.5, 0.5, 0.5, 0.75], [0.25, 0.25, 1.0, 0.5]]
    fields = FORM.make_fields(AnnotatedImage(IMAGE, "a.png", boxes=Boxes.of(corners, [0, 1, 2], [0, 0, 1])))
    np.testing.assert_array_equal(fields["boxes"], np.array([[0, 0.5, 0.5, 1], [0.25, 0.25, 1, 0.5]], np.float32))
    np.testing.assert_array_equal(fields["box_label"], [0, 2])
    np.testing.assert_array_equal(fields["box_crowd"], [0, 1])


def test_an_image_without_boxes_has_padding_alone():
    fields = FORM.make_fields(AnnotatedImage(IMAGE, "a.png", boxes=Boxes.of([], [])))
    np.testing.assert_array_equal(fields["box_label"], [-1, -1])


@pytest.mark.parametrize(
    ("corners", "label", "message"),
    [
        ([0.5, 0, 0.2, 1], 0, r"box 1 of a.png must have top and left before bottom and right, got .* \[0.5, 0.0, 0.2"),
        ([0, 0.5, 1, 0.2], 0, "top and left before bottom and right"),
        ([10, 20, 30, 40], 0, "a part in the image, in fractions of its height and width, got .* Correct or remove it"),
        ([0, -0.5, 1, 0], 0, "a part in the image"),
        ([0, np.nan, 1, 1], 0, "finite corners"),
        ([0, 0, 1, 1], 3, r"a class in \[0, 3\), got .* of class 3"),
        ([0, 0, 1, 1], -1, r"a class in \[0, 3\)"),
    ],
)
def test_wrong_boxes_are_refused(corners, label, message):
    with pytest.raises(UserError, match=message):
        check_boxes(Boxes.of([[0, 0, 1, 1], corners], [0, label]), 3, "a.png")


def test_more_boxes_than_rows_are_refused():
    boxes = Boxes.of([[0, 0, 1, 1]] * 3, [0, 0, 0])
    with pytest.raises(UserError, match="data.boxes must be at least 3, the number of boxes of a.png, got 2. Set it"):
        FORM.make_fields(AnnotatedImage(IMAGE, "a.png", boxes=boxes))


def test_the_size_is_that_of_the_images_or_is_set():
    assert choose_size({(4, 6)}, 0, 0, "a") == (4, 6)
    assert choose_size({(4, 6), (5, 6)}, 8, 0, "a") == (8, 8)
    assert choose_size({(4, 6)}, 8, 12, "a") == (8, 12)
    with pytest.raises(UserError, match=r"data.size must be set for 'a', .* several sizes \(4 x 6, 5 x 6\), got 0"):
        choose_size({(5, 6), (4, 6)}, 0, 0, "a")
    with pytest.raises(UserError, match="data.size must be the height of images if data.width is set, got 0 and 8"):
        choose_size({(5, 6)}, 0, 8, "a")


def test_classes_of_masks_are_values_that_are_not_void():
    def never():
        raise AssertionError

    assert choose_values(DenseSettings(class_names=("a", "b"), void=(0, 255)), never) == (("a", "b"), (1, 2))
    assert choose_values(DenseSettings(void=(1,)), lambda: 3) == (("0", "2", "3"), (0, 2, 3))
    assert largest_value([MASK, MASK[:1]], (9,)) == 3


@pytest.mark.parametrize(
    ("dense", "largest", "message"),
    [
        (DenseSettings(void=(70000,)), 1, r"data.void must be values in \[0, 65536\), got \(70000,\)"),
        (DenseSettings(void=(0, -1)), 1, r"data.void must be values in \[0, 65536\), got \(0, -1\)"),
        (DenseSettings(), 65536, r"the training masks must have values below 65536, got 65536"),
        (
            DenseSettings(class_names=tuple(map(str, range(256)))),
            1,
            r"data.void must be set with more than 255 data.class_names, got \(255,\), its default, and 256 names",
        ),
    ],
)
def test_values_out_of_range_are_refused(dense, largest, message):
    with pytest.raises(UserError, match=message):
        choose_values(dense, lambda: largest)


def test_a_value_is_a_class_of_256_if_void_is_another():
    dense = DenseSettings(class_names=tuple(map(str, range(256))), void=(65535,))
    assert choose_values(dense, lambda: 0)[1] == tuple(range(256))
    assert choose_values(DenseSettings(class_names=("a", "b"), void=()), lambda: 0)[1] == (0, 1)
