"""Boxes: overlaps, distances and FCOS's assignment by hand, and as torchvision has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.losses import boxes


def grid(size: int, strides: tuple[int, ...]) -> np.ndarray:
    """Locations of a square image in pixels, the finest level first."""
    levels = []
    for stride in strides:
        side = np.arange(stride / 2, size, stride)
        y, x = np.meshgrid(side, side, indexing="ij")
        levels.append(np.stack([y, x, *[np.full_like(y, stride)] * 2], -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


compiled = jax.jit(boxes.assign)


def assign(locations, targets, counts=None, radius=boxes.RADIUS, reach=boxes.REACH):
    """Assigns up to 12 boxes, in one program for each grid."""
    padded, is_target = np.zeros((12, 4), np.float32), np.zeros(12, bool)
    padded[: len(targets)], is_target[: len(targets)] = targets, True if counts is None else counts
    return np.asarray(compiled(locations, padded, is_target, radius, reach))


def test_overlaps_by_hand():
    """Two squares of side 2 that share one of side 1: 1 / 7, and the hull of 9 has 2 that neither covers."""
    left = jnp.array([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1], [3, 3, 3, 3]])
    right = jnp.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [0, 2, 1, 3], [3, 3, 3, 3]])
    np.testing.assert_allclose(boxes.iou(left, right), [1 / 7, 1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(boxes.giou(left, right), [1 / 7 - 2 / 9, 1, -1 / 3, 0], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(boxes.area(jnp.array([[2.0, 2, 1, 4], [0, 0, 2, 3]])), [0, 6])


def test_the_units_of_an_axis_do_not_matter():
    draw = np.random.default_rng(0)
    corners = np.sort(draw.uniform(0, 1, (2, 20, 2, 2)), 2).reshape(2, 20, 4)
    left, right = corners.astype(np.float32)
    units, giou = np.array([480, 640] * 2, np.float32), jax.jit(boxes.giou)
    np.testing.assert_allclose(giou(left * units, right * units), giou(left, right), rtol=1e-4, atol=1e-5)


def test_gradients_exist_for_boxes_without_area():
    gradient = jax.jit(jax.grad(lambda box, target: jnp.sum(boxes.giou(box, target))))
    for target in ([[0, 0, 1, 1]], [[0, 0, 0, 0]]):
        assert np.isfinite(gradient(np.zeros((1, 4), np.float32), np.array(target, np.float32))).all()


def test_distances_and_centerness_by_hand():
    """At (y, x) = (4, 12) in strides of 8 and 4, of a box from (0, 10) to (16, 20)."""
    edges = boxes.distances(jnp.array([4.0, 12, 8, 4]), jnp.array([0.0, 10, 16, 20]))
    np.testing.assert_allclose(edges, [0.5, 0.5, 2, 1.5])
    expected = [np.sqrt(0.5 / 2 * 0.5 / 1.5), 1, 0]
    cases = jnp.stack([edges, jnp.array([3.0, 1, 3, 1]), jnp.array([-1.0, 1, 3, 1])])
    np.testing.assert_allclose(boxes.centerness(cases), expected, rtol=1e-6)


def test_the_four_locations_in_a_box_of_two_strides_are_its_own():
    index = assign(grid(512, (8, 16, 32)), [[0, 0, 16, 16]])
    np.testing.assert_array_equal(np.flatnonzero(index == 0), [0, 1, 64, 65])


def test_centre_sampling_leaves_out_locations_near_the_edges():
    """Of a box as large as the image; (4, 12) is 12 pixels, 1.5 strides, from its centre (16, 16)."""
    index = assign(grid(32, (8,)), [[0, 0, 32, 32]])
    np.testing.assert_array_equal(np.flatnonzero(index == 0), [5, 6, 9, 10])
    assert (assign(grid(32, (8,)), [[0, 0, 32, 32]], radius=1.6) == 0).all()


def test_each_level_has_its_range_of_sizes():
    """At the centre of a side of 2 d the farthest edge is d away, at the next location one stride more."""
    locations = grid(512, (8, 16, 32))
    levels = np.repeat([0, 1, 2], [64**2, 32**2, 16**2])
    for side, expected in ((32, {0}), (108, {0}), (180, {1}), (400, {2})):
        low, high = 256 - side / 2, 256 + side / 2
        assert {*levels[assign(locations, [[low, low, high, high]]) == 0]} == expected, side
    assert {*levels[assign(locations, [[226, 226, 286, 286]], reach=2.0) == 0]} == {2}


def test_the_smaller_of_two_boxes_is_chosen_and_padding_and_crowds_are_none():
    locations = grid(32, (8,))
    pair = [[0, 0, 32, 32], [8, 8, 24, 24]]
    assert (assign(locations, pair)[[5, 6, 9, 10]] == 1).all()
    assert (assign(locations, pair, [True, False])[[5, 6, 9, 10]] == 0).all()
    assert (assign(locations, pair, [False, False]) == -1).all()
    assert (assign(locations, [pair[1], pair[1]])[[5, 6, 9, 10]] == 0).all()


def test_a_batch_is_assigned_image_by_image():
    locations = np.stack([grid(32, (8,))] * 2)
    targets = np.array([[[0, 0, 16, 16], [0, 0, 0, 0]], [[16, 16, 32, 32], [0, 0, 32, 32]]], np.float32)
    index, assigned = jax.jit(boxes.assign_batch)(locations, targets, np.array([[True, False], [True, True]]))
    assert index.shape == (2, 16)
    np.testing.assert_array_equal(assigned[0, 0], [0, 0, 16, 16])
    np.testing.assert_array_equal(assigned[1, 15], [16, 16, 32, 32])
    np.testing.assert_array_equal(assigned[1, 5], [0, 0, 32, 32])


@pytest.mark.slow
def test_overlaps_are_those_of_torchvision():
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision").ops
    draw = np.random.default_rng(1)
    left, right = np.sort(draw.uniform(0, 100, (2, 500, 2, 2)), 2).reshape(2, 500, 4).astype(np.float32)
    theirs = [torch.from_numpy(side[:, [1, 0, 3, 2]].copy()) for side in (left, right)]
    ours = jnp.array(left), jnp.array(right)
    np.testing.assert_allclose(1 - boxes.giou(*ours), ops.generalized_box_iou_loss(*theirs), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(boxes.iou(*ours), ops.box_iou(*theirs).diagonal(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_the_assignment_and_the_centerness_are_those_of_torchvision(seed):
    torch = pytest.importorskip("torch")
    fcos = pytest.importorskip("torchvision").models.detection.fcos
    draw, strides, size = np.random.default_rng(seed), (8, 16, 32), 128
    locations = grid(size, strides)
    centre, half = draw.uniform(0, size, (12, 2)), np.exp(draw.uniform(np.log(3), np.log(90), (12, 2)))
    targets = np.clip(np.concatenate([centre - half, centre + half], -1), 0, size).astype(np.float32)
    # torchvision subtracts areas from 1e8 in float32, which makes those that differ by less than 8 equal.
    areas = np.asarray(boxes.area(jnp.array(targets)))
    targets = targets[[i for i in range(12) if (np.abs(areas[:i] - areas[i]) > 16).all()]][: draw.integers(1, 12)]
    levels = [(size // stride) ** 2 for stride in strides]
    centres, sizes = np.asarray(locations[:, :2]), np.asarray(locations[:, 2:])
    anchors = torch.from_numpy(np.concatenate([centres - sizes / 2, centres + sizes / 2], -1)[:, [1, 0, 3, 2]].copy())
    found = {}

    class Head:
        box_coder = fcos.det_utils.BoxLinearCoder(normalize_by_size=True)

        def compute_loss(self, targets, outputs, anchors, matched):
            found["index"] = matched[0].numpy()

    theirs = {"boxes": torch.from_numpy(targets[:, [1, 0, 3, 2]].copy())}
    matcher = type("Matcher", (), {"center_sampling_radius": 1.5, "head": Head()})()
    fcos.FCOS.compute_loss(matcher, [theirs], {}, [anchors], levels)
    index = assign(locations, targets)
    np.testing.assert_array_equal(index, found["index"])
    assert (index >= 0).any()
    assigned = torch.from_numpy(targets[np.maximum(index, 0)][:, [1, 0, 3, 2]].copy())
    edges = Head.box_coder.encode(anchors, assigned).numpy()
    ours = np.asarray(boxes.distances(jnp.array(locations), jnp.array(targets[np.maximum(index, 0)])))
    np.testing.assert_allclose(ours, edges, atol=1e-4)
    inside = index >= 0
    pairs = edges[inside][:, [0, 2]], edges[inside][:, [1, 3]]
    expected = np.sqrt(np.prod([pair.min(-1) / pair.max(-1) for pair in pairs], 0))
    np.testing.assert_allclose(boxes.centerness(jnp.array(ours))[inside], expected, rtol=1e-3, atol=1e-4)
