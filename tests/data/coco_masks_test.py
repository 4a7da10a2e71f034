"""Polygons and run lengths by hand, and the text of run lengths that pycocotools writes."""

import numpy as np
import pytest

from jaxdistill.data.coco_masks import decode_lengths, draw_objects, draw_polygons
from jaxdistill.errors import UserError


def test_a_pixel_is_in_a_polygon_if_its_centre_is():
    rectangle = [1, 1, 4, 1, 4, 3, 1, 3]
    np.testing.assert_array_equal(np.argwhere(draw_polygons((4, 5), [rectangle]))[[0, -1]], [[1, 1], [2, 3]])
    assert draw_polygons((4, 5), [rectangle]).sum() == 6
    triangle = [0, 0, 4, 0, 0, 4]
    np.testing.assert_array_equal(draw_polygons((4, 4), [triangle]), np.add.outer(range(4), range(4)) < 3)
    outside = [-3, -3, 1, -3, 1, 9, -3, 9]
    np.testing.assert_array_equal(draw_polygons((2, 2), [outside]), [[1, 0], [1, 0]])


@pytest.mark.parametrize("place", [(-3, 0), (0, -3), (9, 0), (0, 9)])
def test_a_polygon_beside_the_image_has_no_pixel(place):
    polygon = np.array([[0, 0], [2, 0], [2, 2]]) + place
    assert not draw_polygons((4, 5), [polygon.reshape(-1)]).any()


def test_smaller_objects_cover_larger_ones():
    whole, corner = [[0, 0, 3, 0, 3, 3, 0, 3]], {"size": [3, 3], "counts": [0, 2, 7]}
    drawn = draw_objects((3, 3), [corner, whole], [7, 5], "a.jpg")
    np.testing.assert_array_equal(drawn, [[7, 5, 5], [7, 5, 5], [5, 5, 5]])


def test_text_of_run_lengths():
    """`pycocotools.mask.encode` of the pixels below, 2.0.11."""
    mask = np.zeros((40, 50), bool)
    mask[3:30, 4:9] = mask[10:12, 5:40] = True
    runs = np.flatnonzero(np.diff(np.concatenate([[False], mask.T.reshape(-1), [False]]).astype(int)))
    lengths = np.diff(np.concatenate([[0], runs, [mask.size]])).tolist()
    assert decode_lengths("S5k0=00000007WOb000000000000000000000000000000000000000000000000000000000000V<") == lengths
    drawn = draw_objects(
        (40, 50),
        [
            {
                "size": [40, 50],
                "counts": "S5k0=00000007WOb000000000000000000000000000000000000000000000000000000000000V<",
            }
        ],
        [1],
        "a.jpg",
    )
    np.testing.assert_array_equal(drawn, mask)


@pytest.mark.parametrize(
    "outline",
    [
        {"size": [4, 4], "counts": [3]},
        {"size": [3, 4], "counts": [12]},
        {"size": None, "counts": [16]},
        {"size": [4, 4], "counts": None},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": [15.5, 0.5]},
        [[1, 2, 3]],
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, "a"]],
        [[1, 2, 3, 4, 5, np.nan]],
        "abc",
        None,
    ],
)
def test_other_forms_are_refused(outline):
    with pytest.raises(
        UserError, match="object 0 of a.jpg must have a segmentation of polygons, or run lengths of 4 x"
    ):
        draw_objects((4, 4), [outline], [1], "a.jpg")
