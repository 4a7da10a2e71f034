"""Non-maximum suppression by hand, and as torchvision has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.modules import nms

BOXES = np.array([[0, 0, 2, 2], [0, 0, 2, 1.8], [5, 5, 6, 6], [0, 0, 2, 2.1]], np.float32)
SCORES = np.array([0.9, 0.8, 0.3, 0.7], np.float32)
compiled = jax.jit(nms.suppress, static_argnums=3)


def test_the_best_of_those_of_a_class_that_overlap_is_kept():
    """Boxes 1 and 3 overlap with box 0 by 0.9 and 0.95; box 3 is of another class."""
    settings = nms.Suppression(least=0.2, overlap=0.6, most=5)
    kept = compiled(BOXES, SCORES, np.array([1, 1, 1, 0], np.int32), settings)
    np.testing.assert_array_equal(kept.classes, [1, 0, 1, -1, -1])
    np.testing.assert_allclose(kept.scores, [0.9, 0.7, 0.3, 0, 0])
    np.testing.assert_array_equal(kept.boxes[:3], BOXES[[0, 3, 2]])
    np.testing.assert_array_equal(kept.boxes[3:], 0)


def test_low_scores_and_more_than_the_most_are_left_out():
    few = nms.Suppression(least=0.3, overlap=0.6, most=1)
    kept = compiled(BOXES, SCORES, np.array([1, 1, 1, 0], np.int32), few)
    np.testing.assert_array_equal(kept.classes, [1])
    strict = nms.Suppression(least=0.3, overlap=0.99, most=4)
    kept = compiled(BOXES, SCORES, np.zeros(4, np.int32), strict)
    np.testing.assert_allclose(kept.scores, [0.9, 0.8, 0.7, 0])


def test_detections_of_an_output_are_of_its_best_locations_and_classes():
    """Scores are sqrt(sigmoid(logit) sigmoid(centre-ness)); two of the six pairs are candidates."""
    logits = jnp.array([[[0.0, -1], [3, -9], [-1, -2]]])
    output = Output(logits, {"boxes": jnp.array(BOXES[None, :3] / 10), "centerness": jnp.array([[0.0, 9, -9]])})
    kept = jax.jit(nms.detect, static_argnums=1)(output, nms.Suppression(candidates=2, most=3))
    np.testing.assert_array_equal(kept.classes, [[0, -1, -1]])
    expected = np.sqrt(1 / (1 + np.exp(-3.0)) / (1 + np.exp(-9.0)))
    np.testing.assert_allclose(kept.scores[0, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(kept.boxes[0, 0], BOXES[1] / 10)


def test_boxes_are_cut_at_the_borders_of_the_image():
    boxes = jnp.array([[[-0.2, 0.1, 0.5, 1.3]]])
    found = nms.select(boxes, jnp.array([[[0.9]]]))
    assert np.allclose(found.boxes[0, 0], [0, 0.1, 0.5, 1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_suppression_is_that_of_torchvision(seed):
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision").ops
    draw = np.random.default_rng(seed)
    corners = draw.uniform(0, 60, (200, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(5, 40, (200, 2))], -1).astype(np.float32)
    scores, classes = draw.permutation(200).astype(np.float32) / 200, draw.integers(0, 3, 200).astype(np.int32)
    keep = ops.batched_nms(torch.tensor(boxes[:, [1, 0, 3, 2]]), torch.tensor(scores), torch.tensor(classes), 0.6)
    expected = [index for index in keep.tolist() if scores[index] > 0.05][:50]
    kept = compiled(boxes, scores, classes, nms.Suppression(most=50))
    np.testing.assert_array_equal(kept.boxes[: len(expected)], boxes[expected])
    np.testing.assert_array_equal(kept.classes[: len(expected)], classes[expected])
    assert (np.asarray(kept.classes)[len(expected) :] == -1).all()
