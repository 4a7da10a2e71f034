"""Average precision by hand, and as pycocotools computes it."""

import numpy as np
import pytest

import coco_reference
from jaxdistill.metrics import coco


def image(truth, label, boxes, classes, scores, crowd=None):
    crowd = np.zeros(len(label), bool) if crowd is None else np.array(crowd, bool)
    order = np.argsort(-np.array(scores), kind="stable")
    boxes = np.array(boxes, float).reshape(-1, 4)[order]
    truth = np.array(truth, float).reshape(-1, 4)
    return coco.Image(truth, np.array(label), crowd, boxes, np.array(classes)[order], np.array(scores)[order])


def mean(table, size="all", threshold=None):
    values = table[:, [*coco.SIZES].index(size)]
    values = values if threshold is None else values[:, threshold]
    return np.mean(values[~np.isnan(values)])


def test_overlap_with_a_crowd_is_the_part_of_the_detection_inside():
    """Boxes (x, y, width, height) of areas 4 and 16 that share 2."""
    detection, truth = np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 4, 4], [9, 9, 1, 1]])
    np.testing.assert_allclose(coco.overlaps(detection, truth, np.array([False, False])), [[2 / 18, 0]])
    np.testing.assert_allclose(coco.overlaps(detection, truth, np.array([True, True])), [[2 / 4, 0]])


def test_precision_by_hand():
    """Of two boxes the first and third detection find one: precision 1 to recall 1/2, then 2/3 at 50 recalls."""
    only = image(
        [[0, 0, 10, 10], [20, 0, 10, 10]],
        [0, 0],
        [[0, 0, 10, 10], [50, 50, 5, 5], [20, 0, 10, 10]],
        [0] * 3,
        [0.9, 0.8, 0.7],
    )
    table = coco.precisions([only], 2)
    np.testing.assert_allclose(mean(table), (51 + 50 * 2 / 3) / 101)
    assert np.isnan(table[1]).all()
    assert np.isnan(table[:, 2:]).all()
    assert mean(table, "small") == pytest.approx(mean(table))


def test_a_box_is_found_once_and_a_second_detection_of_it_is_wrong():
    twice = image([[0, 0, 10, 10]], [0], [[0, 0, 10, 10]] * 2, [0, 0], [0.9, 0.8])
    other = image([[0, 0, 10, 10]], [0], [[0, 0, 10, 10]], [0], [0.7])
    np.testing.assert_allclose(mean(coco.precisions([twice, other], 1)), (51 + 50 * 2 / 3) / 101)


def test_detections_in_a_crowd_count_as_neither_right_nor_wrong():
    truth = [[0, 0, 50, 50], [60, 60, 10, 10]]
    crowded = image(truth, [0, 0], [[0, 0, 10, 10], [60, 60, 10, 10]], [0, 0], [0.9, 0.8], [True, False])
    assert mean(coco.precisions([crowded], 1)) == pytest.approx(1.0)


def test_thresholds_count_from_the_overlap_on():
    """An overlap of 0.6 is right at 0.5, 0.55 and 0.6."""
    table = coco.precisions([image([[0, 0, 10, 10]], [0], [[0, 0, 10, 6]], [0], [0.9])], 1)
    np.testing.assert_allclose([mean(table, threshold=place) for place in range(10)], [1] * 3 + [0] * 7)


def draw_images(seed: int) -> list[coco.Image]:
    """Images with near and far detections, equal scores, crowds, and none of either."""
    draw = np.random.default_rng(seed)
    images = []
    for _ in range(12):
        count = draw.integers(0, 9)
        corner, side = draw.uniform(0, 200, (count, 2)), np.exp(draw.uniform(np.log(8), np.log(200), (count, 2)))
        truth, label = np.concatenate([corner, side], -1), draw.integers(0, 3, count)
        near = np.repeat(truth, 3, 0) * draw.uniform(0.75, 1.3, (3 * count, 4))
        far = np.concatenate([draw.uniform(0, 200, (5, 2)), draw.uniform(5, 120, (5, 2))], -1)
        boxes = np.concatenate([near, truth[:2], far])[: draw.integers(0, 40)]
        classes = np.concatenate([np.repeat(label, 3), label[:2], draw.integers(0, 3, 5)])[: len(boxes)]
        scores = draw.integers(1, 12, len(boxes)) / 12
        images.append(image(truth, label, boxes, classes, scores, draw.random(count) < 0.15))
    return images


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_precisions_are_those_of_pycocotools(seed):
    pytest.importorskip("pycocotools")
    images = draw_images(seed)
    expected = coco_reference.precisions(images, 3)
    table = coco.precisions(images, 3)
    np.testing.assert_allclose(np.where(np.isnan(table), -1, table), expected, atol=1e-6)
    assert (expected >= 0).any()
