"""Mosaics of four images; mixup and CutMix are tested with the other augmentations."""

import numpy as np
import pytest

from jaxdistill.core import UNLABELLED
from jaxdistill.data import augment
from jaxdistill.errors import UserError
from moving_labels import LEVELS, OBJECTS, ROWS, draw_batch, pixel_box, run


def test_a_mosaic_has_the_labels_of_four_images():
    batch = draw_batch() | {"mask": np.array([1.0] * (ROWS - 1) + [0.0], np.float32)}
    moved = run(("mosaic",), batch)
    assert moved["boxes"].shape == (ROWS, 4 * (OBJECTS + 1), 4)
    np.testing.assert_allclose(moved["image"][..., 0], LEVELS[moved["label_map"] + 1], atol=1e-6)
    np.testing.assert_array_equal(moved["mask"], [0, 0, 0, *[1] * (ROWS - 4), 0])
    size = np.array([*moved["image"].shape[1:3]] * 2)
    kept = moved["box_label"] != UNLABELLED
    assert len({*kept.sum(1)}) > 2
    for row, number in zip(*np.nonzero(kept), strict=True):
        top, left, bottom, right = np.round(moved["boxes"][row, number] * size).astype(int)
        part = moved["label_map"][row, top:bottom, left:right]
        assert (part == moved["box_label"][row, number]).all()  # a rectangle, and nothing else
        np.testing.assert_array_equal(pixel_box(part == part[0, 0]), [0, 0, bottom - top, right - left])


def test_a_mosaic_needs_masks_or_boxes():
    with pytest.raises(UserError, match="must not have 'mosaic' for images with one class each"):
        augment.build(("mosaic",), seed=0, classes=3, mean=(0.0,), std=(1.0,))
