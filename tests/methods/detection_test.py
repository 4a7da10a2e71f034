"""Methods of detectors by hand: FCOS's losses, LD, CrossKD, and FGD with boxes; FCOS as torchvision has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.losses import boxes, divergence
from jaxdistill.methods.crosskd import CrossKD, quality_focal
from jaxdistill.methods.fcos import FCOS, two_bins
from jaxdistill.methods.fgd import box_weights
from jaxdistill.methods.ld import LD, ld
from jaxdistill.models.fcos import decode, make_locations

SIDE, LEVELS, STRIDES, CLASSES = 32, [(4, 4), (2, 2)], [8, 16], 2
GRID = make_locations((SIDE, SIDE), LEVELS, STRIDES)
TRUTH = np.array([[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], [[0.25, 0.25, 0.75, 0.75], [0, 0, 0, 0]]], np.float32)
BATCH = {"boxes": TRUTH, "label": np.array([[1, 0], [0, -1]], np.int32), "mask": np.ones(2, np.float32)}
POSITIVE = (8, 4)
"""Locations of each image that are assigned to a box."""


def output(seed: int = 0, bins: int = 0) -> Output:
    draw = np.random.default_rng(seed)
    distances = draw.uniform(0.2, 2, (2, len(GRID), 4)).astype(np.float32)
    taps = {"distances": distances, "boxes": decode(jnp.array(GRID), jnp.array(distances))}
    taps |= {"locations": np.stack([GRID] * 2), "centerness": draw.normal(size=(2, len(GRID))).astype(np.float32)}
    if bins:
        taps["edges"] = draw.normal(size=(2, len(GRID), 4, bins + 1)).astype(np.float32)
    taps = {name: jnp.array(tap) for name, tap in taps.items()}
    return Output(jnp.array(draw.normal(-1, 1, (2, len(GRID), CLASSES)), jnp.float32), taps)


def apply(method, *sides, batch=BATCH):
    sides = sides if len(sides) == 2 else (*sides, None)
    return np.asarray(jax.jit(lambda *sides: method.apply({}, *sides, jax.tree.map(jnp.array, batch)))(*sides))


def fcos_by_hand(network: Output) -> np.ndarray:
    """Returns the sum of the losses of each image, location by location."""
    sums = np.zeros(2)
    index = [boxes.assign(jnp.array(GRID), jnp.array(TRUTH[i]), jnp.array(BATCH["label"][i] >= 0)) for i in range(2)]
    for image in range(2):
        for place, box in enumerate(np.asarray(index[image])):
            for label in range(CLASSES):
                p = 1 / (1 + np.exp(-float(network.logits[image, place, label])))
                is_class = box >= 0 and BATCH["label"][image, box] == label
                sums[image] -= 0.25 * (1 - p) ** 2 * np.log(p) if is_class else 0.75 * p**2 * np.log(1 - p)
            if box >= 0:
                overlap = boxes.giou(network.tap("boxes")[image, place], jnp.array(TRUTH[image, box]))
                edges = boxes.distances(jnp.array(GRID[place]), jnp.array(TRUTH[image, box]))
                target, o = float(boxes.centerness(edges)), float(network.tap("centerness")[image, place])
                sums[image] += 1 - float(overlap) + np.log(1 + np.exp(o)) - o * target
    return sums


@pytest.mark.slow
def test_fcos_location_by_location():
    network = output()
    sums = fcos_by_hand(network)
    np.testing.assert_allclose(apply(FCOS(), network), sums / POSITIVE, rtol=1e-4)
    np.testing.assert_allclose(np.mean(apply(FCOS(normalizer="batch"), network)), sum(sums) / 12, rtol=1e-4)


def test_padding_masked_images_and_images_without_boxes():
    """Numbers in rows of padding change nothing, and without boxes only the focal loss of the background is left."""
    network = output()
    values = apply(FCOS(), network)
    changed = BATCH | {"boxes": np.where(BATCH["label"][..., None] < 0, np.float32(0.7), TRUTH)}
    np.testing.assert_array_equal(apply(FCOS(), network, batch=changed), values)
    empty = BATCH | {"label": np.full((2, 2), -1, np.int32)}
    p = 1 / (1 + np.exp(-np.asarray(network.logits, np.float64)))
    background = (-0.75 * p**2 * np.log(1 - p)).sum((1, 2))
    np.testing.assert_allclose(apply(FCOS(), network, batch=empty), background, rtol=1e-4)
    half = BATCH | {"mask": np.array([1, 0], np.float32)}
    whole = core.mean(jnp.array(apply(FCOS(normalizer="batch"), network, batch=half)), jnp.array(half["mask"]))
    np.testing.assert_allclose(whole, values[0], rtol=1e-5)


def test_the_two_bins_beside_a_distance_by_hand():
    """At 1.25 the bins 1 and 2 count by 3/4 and 1/4; beyond the last bin it alone counts."""
    edges = jnp.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    log_p = np.log(np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum())
    expected = [-0.75 * log_p[1] - 0.25 * log_p[2], -log_p[2]]
    np.testing.assert_allclose(two_bins(edges, jnp.array([1.25, 7.0])), expected, rtol=1e-5)


def test_ld_by_hand():
    """Of two bins, at temperature 2: 4 KL of (1/2, 1/2) and (1/4, 3/4), weighted by the scores of positive places."""
    teacher, student = jnp.zeros((1, 4, 2)), jnp.broadcast_to(jnp.array([0.0, 2 * np.log(3)]), (1, 4, 2))
    one = 4 * (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))
    np.testing.assert_allclose(ld(student, teacher, 2.0), [one], rtol=1e-5)


@pytest.mark.slow
def test_ld_averages_the_positive_locations_by_the_students_score():
    student, teacher = output(0, bins=2), output(1, bins=2)
    values = np.asarray(ld(student.tap("edges"), teacher.tap("edges"), 10.0))
    sigmoid = [1 / (1 + np.exp(-np.asarray(side.logits).max(-1))) for side in (student, teacher)]
    index = [boxes.assign(jnp.array(GRID), jnp.array(TRUTH[i]), jnp.array(BATCH["label"][i] >= 0)) for i in range(2)]
    weight = sigmoid[0] * (np.array(index) >= 0)
    np.testing.assert_allclose(apply(LD(), student, teacher), (weight * values).sum(1) / weight.sum(1), rtol=1e-4)
    by_score = (sigmoid[1] * values).sum(1) / sigmoid[1].sum(1)
    np.testing.assert_allclose(apply(LD(region="score"), student, teacher), by_score, rtol=1e-4)


def test_quality_focal_by_hand():
    """|3/4 - 1/2| (-3/4 log 1/2 - 1/4 log 1/2) = log(2) / 4."""
    loss = quality_focal(jnp.zeros((1, 1)), jnp.full((1, 1), np.log(3.0)), 1.0)
    np.testing.assert_allclose(loss, [np.log(2) / 4], rtol=1e-5)


@pytest.mark.slow
def test_crosskd_weights_boxes_by_the_teachers_score():
    student, teacher = output(0, bins=2), output(1, bins=2)
    weight = (1 / (1 + np.exp(-np.asarray(teacher.logits)))).max(-1)
    focal = np.asarray(quality_focal(student.logits, teacher.logits, 1.0)).sum(1)
    edges = np.asarray(ld(student.tap("edges"), teacher.tap("edges"), 1.0))
    expected = (focal + 4 * (weight * edges).sum(1)) / weight.sum(1)
    np.testing.assert_allclose(apply(CrossKD(box=4.0), student, teacher), expected, rtol=1e-4)
    centers = np.asarray(divergence.binary_kl(teacher.tap("centerness"), student.tap("centerness")))
    with_centers = expected + 2 * (weight * centers).sum(1) / weight.sum(1)
    np.testing.assert_allclose(apply(CrossKD(box=4.0, centerness=2.0), student, teacher), with_centers, rtol=1e-4)
    plain = [side.replace(taps={n: x for n, x in side.taps.items() if n != "edges"}) for side in (student, teacher)]
    overlap = np.asarray(boxes.giou(*(side.tap("boxes") for side in plain)))
    expected = (focal + (weight * (1 - overlap)).sum(1)) / weight.sum(1)
    np.testing.assert_allclose(apply(CrossKD(), *plain), expected, rtol=1e-4)


def test_other_bins_or_locations_are_refused():
    with pytest.raises(UserError, match="the same bins at the same locations"):
        apply(LD(), output(0, bins=2), output(0, bins=3))
    with pytest.raises(UserError, match="crosskd must compare distances in the same bins at the same locations"):
        apply(CrossKD(), output(0, bins=2), output(0, bins=3))
    fewer = jax.tree.map(lambda x: x[:, :5], output())
    with pytest.raises(UserError, match="the same locations and classes"):
        apply(CrossKD(), output(), fewer)


def test_the_weights_of_fgd_are_of_the_smallest_box_by_hand():
    """On 4 x 4 places: a box from 0 to 0.6 covers rows 0 to 3, one from 0.5 to 0.75 rows 2 and 3."""
    truth = jnp.array([[[0.0, 0, 0.6, 0.25], [0.5, 0, 0.75, 0.25], [0, 0, 1, 1]]])

    @jax.jit
    def weights(truth, is_box):
        return box_weights(boxes.inverse_areas(truth, is_box, (4, 4)), 3.0, 5.0)

    found = np.asarray(weights(truth, jnp.array([[True, True, False]])))[0]
    expected = np.full((4, 4), 5 / 8)
    expected[:, :2] = 3 / (4 * 2)
    expected[2:, :2] = 3 / (2 * 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_fcos_is_that_of_torchvision():
    torch = pytest.importorskip("torch")
    fcos = pytest.importorskip("torchvision").models.detection.fcos
    network = output(3)
    flipped = TRUTH[..., [1, 0, 3, 2]] * SIDE
    targets = [{"boxes": torch.tensor(flipped[i][: 2 - i]), "labels": torch.tensor([[1, 0], [0]][i])} for i in range(2)]
    half = GRID[:, 2:] * SIDE / 2
    corners = np.concatenate([GRID[:, :2] * SIDE - half, GRID[:, :2] * SIDE + half], -1)[:, [1, 0, 3, 2]]
    names = {"cls_logits": network.logits, "bbox_regression": network.tap("distances")}
    names |= {"bbox_ctrness": network.tap("centerness")[..., None]}
    outputs = {name: torch.tensor(np.asarray(x)) for name, x in names.items()}
    model = type("Model", (), {"center_sampling_radius": 1.5, "head": fcos.FCOSHead(4, 1, CLASSES, 0)})()
    anchors = [torch.tensor(corners)] * 2
    losses = fcos.FCOS.compute_loss(model, targets, outputs, anchors, [h * w for h, w in LEVELS])
    ours = np.mean(apply(FCOS(normalizer="batch"), network))
    np.testing.assert_allclose(ours, sum(float(loss) for loss in losses.values()), rtol=1e-4)
