"""Metrics of segmentation beside numpy, SciPy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import jaccard_score

from jaxdistill.core import Output
from jaxdistill.metrics import METRICS
from jaxdistill.metrics.segmentation import boundaries, dilate

CLASSES, VOID = 4, -1


def draw(seed, images=3, side=(24, 31)):
    """Blobs of classes 0 to 2 with void, predictions with some mistakes; class 3 occurs nowhere."""
    random = np.random.default_rng(seed)
    field = random.normal(size=(images, *side, 3))
    label = np.argmax(ndimage.gaussian_filter(field, (0, 3, 3, 0)), -1)
    guess = np.argmax(ndimage.gaussian_filter(field + 0.7 * random.normal(size=field.shape), (0, 3, 3, 0)), -1)
    label = np.where(ndimage.gaussian_filter(random.normal(size=label.shape), (0, 2, 2)) > 0.12, VOID, label)
    batch = {"label": label.astype(np.int32), "valid": np.float32(label >= 0), "mask": np.ones(images, np.float32)}
    return Output(jax.nn.one_hot(guess, CLASSES)), batch, guess


def measure(name, *batches):
    """The metric of a split, with sums that are added on the host."""
    sums = [jax.device_get(jax.jit(METRICS[name].sums)(output, batch, None)) for output, batch in batches]
    return METRICS[name].finish(jax.tree.map(lambda *parts: np.float64(np.sum(parts, 0)), *sums))


def bf_score(label, guess, radius):
    """The definition by distance transforms, for one image."""
    cross = ndimage.generate_binary_structure(2, 1)
    sides, guess = [], np.where(label < 0, VOID, guess)
    for x in (guess, label):
        edges = {}
        for k in range(CLASSES):
            others = ndimage.binary_dilation((x >= 0) & (x != k), cross)
            edges[k] = (x == k) & others
        sides.append(edges)
    scores = []
    for k in range(CLASSES):
        left, right = sides[0][k], sides[1][k]
        if not left.any() and not right.any():
            continue
        if not left.any() or not right.any():
            scores.append(0.0)
            continue
        precision = np.mean(ndimage.distance_transform_edt(~right)[left] <= radius)
        recall = np.mean(ndimage.distance_transform_edt(~left)[right] <= radius)
        scores.append(2 * precision * recall / max(precision + recall, 1e-12))
    return np.mean(scores)


def test_iou_beside_scikit_learn():
    """Of two batches of other sizes; a void pixel does not count, whatever its prediction."""
    batches = [draw(0), draw(1, images=2)]
    label = np.concatenate([batch["label"].ravel() for _, batch, _ in batches])
    guess = np.concatenate([guess.ravel() for *_, guess in batches])
    counted = label >= 0
    pairs = [(output, batch) for output, batch, _ in batches]
    expected = jaccard_score(label[counted], guess[counted], average="macro")
    assert 0.3 < expected < 0.9
    assert measure("mean_iou", *pairs) == pytest.approx(expected, rel=1e-7)
    table = measure("per_class_iou", *pairs)
    each = jaccard_score(label[counted], guess[counted], average=None, labels=[0, 1, 2])
    np.testing.assert_allclose(table["iou"], [*each, 0.0], rtol=1e-7)
    assert table["pixels"] == np.bincount(label[counted], minlength=CLASSES).tolist()
    right = np.bincount(label[counted & (label == guess)], minlength=CLASSES)
    np.testing.assert_allclose(table["accuracy"], right / np.maximum(table["pixels"], 1), rtol=1e-7)
    assert measure("accuracy", *pairs) == pytest.approx(np.mean((label == guess)[counted]), rel=1e-7)


def test_boundary_f1_beside_distance_transforms():
    output, batch, guess = draw(2)
    radius = 1  # 0.0075 of a diagonal of 39 pixels, rounded up
    expected = np.mean([bf_score(*image, radius) for image in zip(batch["label"], guess, strict=True)])
    assert 0.2 < expected < 0.9
    assert measure("boundary_f1", (output, batch)) == pytest.approx(expected, rel=1e-5)


def test_boundaries_by_hand():
    label = jnp.asarray([[[0, 0, 1], [0, VOID, 1], [0, VOID, VOID]]])
    zero, one = np.moveaxis(np.asarray(boundaries(label, 2))[0], -1, 0)
    np.testing.assert_array_equal(zero, [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(one, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("radius", [0, 1, 3, 5])
def test_dilation_is_by_discs(radius):
    x = np.zeros((1, 8, 13, 1), bool)
    x[0, 2, 3], x[0, 7, 12] = True, True
    expected = ndimage.distance_transform_edt(~x[0, :, :, 0]) <= radius
    np.testing.assert_array_equal(dilate(jnp.asarray(x), radius)[0, :, :, 0], expected)


@pytest.mark.parametrize("name", ["mean_iou", "per_class_iou", "boundary_f1", "accuracy", "nll", "confusion"])
def test_void_pixels_change_nothing(name):
    output, batch, _ = draw(3, images=2)
    is_void = (batch["label"] < 0)[..., None]
    spoiled = Output(jnp.where(is_void, 100.0 * jnp.arange(CLASSES), output.logits))
    assert is_void.any()
    left, right = measure(name, (output, batch)), measure(name, (spoiled, batch))
    jax.tree.map(np.testing.assert_array_equal, left, right)
