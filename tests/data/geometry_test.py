"""Label maps and boxes that move with the pixels of their images."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import UNLABELLED
from jaxdistill.data import augment, geometry
from jaxdistill.errors import UserError
from moving_labels import HEIGHT, LEVELS, MOVING, OBJECTS, ROWS, WIDTH, draw_batch, pixel_box, run

EXACT = [("flip",), ("pad_crop:7",), ("crop:16,20",), ("flip", "pad_crop:3", "crop:20,20")]
RESAMPLED = [("scale:0.5,2.0",), ("rotate:25",), ("scale:0.7,1.5", "rotate:10", "flip", "crop:20,20")]


@pytest.mark.parametrize("names", EXACT, ids=" ".join)
def test_labels_follow_pixels_exactly(names):
    before, moved = draw_batch(), run(names)
    np.testing.assert_allclose(moved["image"][..., 0], LEVELS[moved["label_map"] + 1], atol=1e-6)
    size = np.array([*moved["image"].shape[1:3]] * 2)
    dropped = 0
    for row in range(ROWS):
        for number in range(OBJECTS):
            inside, label = moved["label_map"][row] == number, moved["box_label"][row, number]
            remaining = inside.sum() / (before["label_map"][row] == number).sum()
            if abs(remaining - geometry.VISIBLE) < 1e-3:
                continue
            assert label == (number if remaining > geometry.VISIBLE else UNLABELLED)
            expected = pixel_box(inside) / size if label >= 0 else np.zeros(4)
            np.testing.assert_allclose(moved["boxes"][row, number], expected, atol=1e-6)
            assert moved["box_crowd"][row, number] == (label == 1)
            dropped += label < 0
    assert (dropped > 0) == (names != ("flip",))
    assert (moved["box_label"][:, -1] == UNLABELLED).all()


@pytest.mark.parametrize("names", RESAMPLED, ids=" ".join)
def test_labels_follow_resampled_pixels(names):
    moved = run(names)
    size = np.array([*moved["image"].shape[1:3]] * 2)
    drawn = LEVELS[moved["label_map"] + 1]
    # A pixel between two objects is mixed; one inside an object is not.
    assert np.mean(abs(moved["image"][..., 0] - drawn) < 0.02) > 0.7
    assert np.mean(abs(moved["image"][..., 0] - drawn) < 0.51) > 0.99
    assert UNLABELLED in moved["label_map"]
    for row in range(ROWS):
        for number in range(OBJECTS):
            if moved["box_label"][row, number] < 0:
                continue
            expected = pixel_box(moved["label_map"][row] == number)
            found = moved["boxes"][row, number] * size
            # A nearest pixel is half a pixel off; the box about a turned rectangle encloses the turned pixels.
            assert (found[:2] <= expected[:2] + 1).all()
            assert (found[2:] >= expected[2:] - 1).all()
            if "rotate" not in str(names):
                np.testing.assert_allclose(found, expected, atol=1.01)


@pytest.mark.parametrize("names", [("scale:0.5,2.0",), ("rotate:25",)], ids=" ".join)
def test_a_label_is_that_of_the_nearest_place(names):
    """Pixels hold their own row and column, and so does the label."""
    places = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    image = np.tile(np.moveaxis(places, 0, -1) / 100, (ROWS, 1, 1, 1))
    label_map = np.tile((WIDTH * places[0] + places[1]).astype(np.int32), (ROWS, 1, 1))
    moved = run(names, draw_batch() | {"image": image, "label_map": label_map}, moving=("label_map",), channels=2)
    row, column = np.divmod(moved["label_map"], WIDTH)
    inner = (row > 0) & (row < HEIGHT - 1) & (column > 0) & (column < WIDTH - 1)  # beside the border is black
    assert inner.mean() > 0.5
    for axis, place in enumerate((row, column)):
        np.testing.assert_allclose(100 * moved["image"][inner][:, axis], place[inner], atol=0.5 + 1e-3)


def test_transforms_that_move_no_pixel_keep_labels():
    before, moved = draw_batch(), run(("jitter:0.3,0.3", "cutout:5"))
    for name in MOVING:
        np.testing.assert_array_equal(moved[name], before[name])


def test_images_are_the_same_with_and_without_labels():
    names = ("scale:0.5,2.0", "crop:12,12")
    np.testing.assert_array_equal(run(names)["image"], run(names, moving=())["image"])


def test_scaling_by_hand():
    image = jnp.array([[0.0, 1.0]])[..., None]
    key = next(key for key in jax.random.split(jax.random.key(0), 99) if jax.random.uniform(key, (3,))[2] < 0.02)
    doubled = geometry.scale_image(key, image, 2.0, 2.0)[..., 0]
    np.testing.assert_allclose(doubled, [[0.0, 0.25]], atol=0.03)  # columns at -1/4 and 1/4 of the old ones
    halved = geometry.scale_image(key, jnp.ones((4, 4, 1)), 0.5, 0.5)[..., 0]
    assert halved.sum() == 4.0  # two by two pixels on black


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(UserError, match="size of crop must be at most that of the images, 24,30, got 25,30"):
        run(("crop:25,30",))


@pytest.mark.parametrize("name", ["mixup:0.2", "cutmix:1.0", "data.geometry_test:invert"])
def test_labels_cannot_follow_every_augmentation(name, monkeypatch):
    monkeypatch.setattr(augment.registry, "find", lambda *_: augment.AUGMENTATIONS.get(name.partition(":")[0], invert))
    with pytest.raises(UserError, match="data.augment must be of .*'flip'.* for images with masks or boxes, .* got"):
        augment.build((name,), seed=0, classes=4, mean=(0.0,), std=(1.0,), moving=MOVING)


def invert(key, image):
    return 1 - image


def test_labels_have_one_view():
    with pytest.raises(UserError, match="data.views must be 1 for images with masks or boxes, got 2"):
        augment.build((), seed=0, classes=4, mean=(0.0,), std=(1.0,), moving=MOVING, views=2)


def test_random_resized_crops_are_windows_of_area_and_aspect_in_their_bounds():
    keys = jax.random.split(jax.random.key(0), 500)
    sides, starts = map(np.asarray, jax.jit(jax.vmap(lambda key: geometry.draw_window(key, (40, 60), 0.2, 0.8)))(keys))
    fraction, aspect = sides.prod(1) / 2400, sides[:, 1] / sides[:, 0]
    assert (np.round(sides) == sides).all()
    assert (starts >= 0).all()
    assert (starts + sides <= [40, 60]).all()
    assert 0.18 < fraction.min() < 0.25
    assert 0.7 < fraction.max() < 0.82
    assert aspect.min() < 0.85
    assert 1.25 < aspect.max() < 1.6
    assert starts.min(0).max() == 0


@pytest.mark.slow
def test_a_resized_window_is_torchvisions_and_its_labels_move_with_it():
    golden = np.load(pathlib.Path(__file__).parents[1] / "golden_torchvision" / "colours.npz")
    image = jnp.asarray(golden["image"][:9, :8], jnp.float32) / 255
    small = jax.image.scale_and_translate(
        image, (4, 3, 3), (0, 1), jnp.array([4 / 9, 3 / 8]), jnp.zeros(2), method="linear", antialias=True
    )
    np.testing.assert_allclose(small, golden["resize"], atol=1e-5)  # the same resampling
    whole = geometry.resize_window(image, jnp.array([9.0, 8.0]), jnp.zeros(2))
    np.testing.assert_allclose(whole, image, atol=1e-6)
    labels = jnp.arange(72).reshape(9, 8)
    movement = geometry.random_resized_crop(jax.random.key(1), (9, 8), 0.2, 0.4)
    sides, start = geometry.draw_window(jax.random.key(1), (9, 8), 0.2, 0.4)
    moved = np.asarray(geometry.move_map(labels, movement))
    rows, columns = moved // 8, moved % 8
    top, left = (int(x) for x in start)
    height, width = (int(x) for x in sides)
    assert (rows.min(), rows.max() + 1) == (top, top + height)
    assert (columns.min(), columns.max() + 1) == (left, left + width)
