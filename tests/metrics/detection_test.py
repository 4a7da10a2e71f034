"""Metrics of detections by hand, over batches with masked rows, and from the outputs of a detector as pycocotools."""

import jax
import numpy as np
import pytest

import coco_reference
from jaxdistill.conformance import toy_outputs
from jaxdistill.core import Output
from jaxdistill.metrics import METRICS
from jaxdistill.metrics import detection as metrics

LOGIT = 9.0
TRUTH = np.array([[[0.1, 0.1, 0.25, 0.25], [0.5, 0.5, 0.9, 0.9]], [[0.2, 0.2, 0.9, 0.9], [0, 0, 0, 0]]], np.float32)
LABEL = np.array([[0, 1], [1, -1]], np.int32)
BATCH = {"image": np.zeros((2, 160, 160, 3), np.float32), "boxes": TRUTH, "box_label": LABEL}
BATCH |= {"box_crowd": np.zeros((2, 2), np.int32), "mask": np.ones(2, np.float32)}
rows = jax.jit(metrics.Gather().rows)


def output(boxes, classes):
    """A detector that is sure of one class at each location, or of none (-1)."""
    logits = np.where(np.array(classes)[..., None] == np.arange(2), LOGIT, -LOGIT).astype(np.float32)
    return Output(logits, {"boxes": boxes, "centerness": np.full(logits.shape[:2], LOGIT, np.float32)})


def value(name, *gathered):
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *map(jax.device_get, gathered))
    metric = METRICS[name]
    return metric.finish(metric.gather.summarize(whole))


def test_a_perfect_detector_has_precision_1_and_one_that_finds_nothing_0():
    perfect = rows(output(TRUTH, LABEL), BATCH)
    assert value("map", perfect) == pytest.approx(1)
    np.testing.assert_allclose([*value("map_per_class", perfect).values()], np.ones((3, 2)))
    blind = rows(output(TRUTH, np.full((2, 2), -1)), BATCH)
    assert [value(name, blind) for name in ("map", "map50", "map75")] == [0, 0, 0]


def test_sizes_are_those_of_pixels_and_classes_without_boxes_do_not_count():
    """Of sides of 24, 64 and 112 pixels the second is not found; class 0 has the first alone."""
    found = rows(output(TRUTH, np.array([[0, -1], [1, -1]])), BATCH)
    sizes = [value(name, found) for name in ("map_small", "map_medium", "map_large")]
    np.testing.assert_allclose(sizes, [1, 0, 1])
    assert value("map", found) == pytest.approx((1 + 51 / 101) / 2)


def test_boxes_that_overlap_by_less_than_the_threshold_are_wrong():
    """Wider by 0.06, the boxes overlap by 0.15 / 0.21, 0.4 / 0.46 and 0.7 / 0.76; one class has the first."""
    near = rows(output(TRUTH + np.array([0, 0, 0, 0.06], np.float32), LABEL), BATCH)
    np.testing.assert_allclose([value("map50", near), value("map75", near)], [1, 0.5])


def test_agreement_counts_the_detections_that_both_networks_have():
    """Of three detections and two, one is of both: another is of another class, one missing."""
    left, right = output(TRUTH, LABEL), output(TRUTH, np.array([[0, 0], [-1, -1]]))
    metric = METRICS["box_agreement"]
    sums = jax.device_get(jax.jit(metric.sums)(left, BATCH, right))
    assert metric.finish(sums) == pytest.approx(2 / 5)


@pytest.mark.slow
def test_detections_of_outputs_have_the_precision_of_pycocotools():
    pytest.importorskip("pycocotools")
    batch = jax.device_get(toy_outputs.batch("boxes"))
    gathered = [rows(jax.device_get(toy_outputs.output("boxes", seed)), batch) for seed in range(4)]
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *map(jax.device_get, gathered))
    images = [metrics.coco_image(jax.tree.map(lambda x, i=i: x[i], whole)) for i in range(len(whole.size))]
    table = metrics.Gather().summarize(whole)
    expected = coco_reference.precisions(images, toy_outputs.CLASSES)
    np.testing.assert_allclose(np.where(np.isnan(table), -1, table), expected, atol=1e-6)
    counted = expected[:, 0][expected[:, 0] >= 0]
    assert METRICS["map"].finish(table) == pytest.approx(counted.mean())
