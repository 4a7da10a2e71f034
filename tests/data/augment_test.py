"""Augmentation: what each transform does to tiny images, and that it is a function of the example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdistill.core import UNLABELLED
from jaxdistill.data import augment
from jaxdistill.errors import UserError

ONE_IMAGE = ("pad_crop:2", "flip", "rotate:30", "jitter:0.3,0.3", "cutout:3")
PLAIN = {"seed": 0, "classes": 3, "mean": (0.0,), "std": (1.0,)}


def raw(rows=8, shape=(6, 5, 1)):
    image = np.random.default_rng(0).integers(0, 256, (rows, *shape), dtype=np.uint8)
    return {
        "image": jnp.asarray(image),
        "label": jnp.arange(rows, dtype=jnp.int32) % 3,
        "index": 10 + jnp.arange(rows, dtype=jnp.int32),
        "view": jnp.zeros(rows, jnp.int32),
        "mask": jnp.ones(rows, jnp.float32),
    }


def run(names, batch, **options):
    return jax.jit(augment.build(names, **PLAIN | options))(batch)


def draw(transform, image, *numbers, count=400):
    """Applies a transform of `[height, width]` images under many keys; returns `[count, height, width]`."""
    image = jnp.asarray(image, jnp.float32)[..., None]
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: transform(key, image, *numbers)))(keys))[..., 0]


def distinct(images):
    return {tuple(np.ravel(image).tolist()) for image in images}


def test_flip_mirrors_left_and_right_or_does_nothing():
    found = draw(augment.flip, [[1, 2, 3], [4, 5, 6]])
    assert distinct(found) == {(1, 2, 3, 4, 5, 6), (3, 2, 1, 6, 5, 4)}
    assert 0.4 < np.mean(found[:, 0, 0] == 3) < 0.6


def test_pad_crop_reaches_every_shift_of_the_padded_image_and_nothing_else():
    image = np.array([[1, 2, 3], [4, 5, 6]])
    padded = np.array([[0, 0, 0, 0, 0], [0, 1, 2, 3, 0], [0, 4, 5, 6, 0], [0, 0, 0, 0, 0]])
    shifts = [padded[row : row + 2, column : column + 3] for row in range(3) for column in range(3)]
    assert distinct(draw(augment.pad_crop, image, 1)) == distinct(shifts)


def test_pad_crop_pads_by_more_than_the_image():
    found = draw(augment.pad_crop, [[1, 2]], 3)
    assert distinct(found) == {(1, 2), (0, 1), (2, 0), (0, 0)}


@pytest.mark.parametrize("side", [1, 2, 3])
def test_cutout_blackens_every_window_and_nothing_else(side):
    windows = []
    for row in range(4):
        for column in range(5):
            image = np.ones((4, 5))
            top, left = row - side // 2, column - side // 2
            image[max(top, 0) : top + side, max(left, 0) : left + side] = 0
            windows.append(image)
    assert distinct(draw(augment.cutout, np.ones((4, 5)), side)) == distinct(windows)


def test_cutout_of_one_corner_by_hand():
    found = draw(augment.cutout, np.ones((3, 3)), 2)
    assert (0, 1, 1, 1, 1, 1, 1, 1, 1) in distinct(found)
    assert (1, 1, 1, 1, 0, 0, 1, 0, 0) in distinct(found)


def test_cutout_larger_than_the_image_leaves_nothing():
    assert not draw(augment.cutout, np.ones((2, 3)), 99).any()


def test_turn_by_zero_changes_no_bit():
    image = np.random.default_rng(0).random((5, 8, 3), np.float32)
    np.testing.assert_array_equal(augment.rotate_by(image, 0.0), image)


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turn_by_quarters_is_rot90(size, quarters):
    image = np.random.default_rng(0).random((size, size, 2), np.float32)
    np.testing.assert_allclose(augment.rotate_by(image, 90.0 * quarters), np.rot90(image, quarters), atol=2e-6)


def test_turn_by_hand():
    wide = jnp.array([[1.0, 2.0, 3.0]])[..., None]
    np.testing.assert_allclose(augment.rotate_by(wide, 90.0)[..., 0], [[0, 2, 0]], atol=1e-6)
    corner = jnp.zeros((3, 3, 1)).at[0, 2].set(1.0)
    # The top pixel sees (0.293, 1.707): the corner with weight 0.707 in each direction.
    np.testing.assert_allclose(augment.rotate_by(corner, 45.0)[0, 1, 0], 0.5, atol=1e-6)


def test_rotate_turns_both_ways_up_to_the_given_degrees(monkeypatch):
    monkeypatch.setattr(augment, "rotate_by", lambda image, degrees: jnp.full_like(image, degrees))
    found = draw(augment.rotate, np.zeros((1, 1)), 15.0)
    assert -15 <= found.min() < -14
    assert 14 < found.max() <= 15


@pytest.mark.parametrize(("u", "v", "expected"), [(1, -1, [0.45, 0.75]), (1, 1, [0.15, 1.0]), (-1, 0, [0.1, 0.3])])
def test_jitter_by_hand(monkeypatch, u, v, expected):
    monkeypatch.setattr(jax.random, "uniform", lambda *_, **__: jnp.array([u, v], jnp.float32))
    image = jnp.array([[0.2, 0.6]])[..., None]
    np.testing.assert_allclose(augment.jitter(None, image, 0.5, 0.5)[0, :, 0], expected, atol=1e-6)


def test_jitter_draws_brightness_and_contrast_over_their_whole_ranges():
    bright = draw(augment.jitter, [[0.25, 0.75]], 0.2, 0.0).mean((1, 2)) / 0.5
    assert 0.8 - 1e-6 <= bright.min() < 0.81
    assert 1.19 < bright.max() <= 1.2 + 1e-6
    contrast = np.diff(draw(augment.jitter, [[0.4, 0.6]], 0.0, 0.2), axis=2) / 0.2
    assert 0.8 - 1e-6 <= contrast.min() < 0.81
    assert 1.19 < contrast.max() <= 1.2 + 1e-6


@pytest.mark.parametrize("name", ["mixup:0.5", "cutmix:1.0"])
def test_labels_are_mixed_as_the_pixels_are(name):
    batch = raw(rows=64, shape=(8, 6, 1))
    first = jnp.arange(64) < 32
    batch["image"] = jnp.broadcast_to(first.reshape(64, 1, 1, 1), (64, 8, 6, 1)).astype(jnp.float32)
    batch["label"] = jnp.where(first, 0, 2)
    result = run((name,), batch)
    ones = np.mean(result["image"], axis=(1, 2, 3))
    assert result["label"].dtype == jnp.float32
    np.testing.assert_allclose(result["label"], np.stack([ones, 0 * ones, 1 - ones], -1), atol=1e-6)
    assert len(set(ones.tolist())) > 16


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_share_has_the_variance_of_beta(alpha):
    one, zero = jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1))
    keys = jax.random.split(jax.random.key(0), 4000)
    images, shares = jax.jit(jax.vmap(lambda key: augment.mixup(key, one, zero, alpha)))(keys)
    np.testing.assert_array_equal(images[:, 0, 0, 0], shares)
    np.testing.assert_allclose(np.mean(shares), 0.5, atol=0.03)
    np.testing.assert_allclose(np.var(shares), 1 / (4 * (2 * alpha + 1)), atol=0.01)


def test_cutmix_pastes_a_box_of_the_drawn_area():
    # So large an alpha draws a share of 1/2: the box is sqrt(1/2) of either length, 2 of 4 and 11 of 16.
    one, zero = jnp.ones((4, 16, 1)), jnp.zeros((4, 16, 1))
    keys = jax.random.split(jax.random.key(0), 400)
    images, shares = jax.jit(jax.vmap(lambda key: augment.cutmix(key, one, zero, 1e6)))(keys)
    pasted = np.asarray(images)[..., 0] == 0
    rows, columns = pasted.any(2), pasted.any(1)
    np.testing.assert_array_equal(pasted, rows[:, :, None] & columns[:, None, :])
    np.testing.assert_array_equal(shares, 1 - pasted.mean((1, 2), dtype=np.float32))
    assert set(rows.sum(1).tolist()) == {1, 2}
    assert set(columns.sum(1).tolist()) == set(range(6, 12))


def test_a_pair_is_unlabelled_if_either_is_and_its_mask_is_the_product():
    batch = raw(rows=5)
    batch["label"] = jnp.array([0, 1, 2, 1, UNLABELLED])
    batch["mask"] = jnp.array([1.0, 0.0, 1.0, 1.0, 1.0])
    result = run(("mixup:1",), batch)
    np.testing.assert_array_equal(result["label"][jnp.array([0, 4])], np.zeros((2, 3)))
    np.testing.assert_allclose(np.sum(result["label"][1:4], 1), 1, atol=1e-6)
    np.testing.assert_array_equal(result["mask"], [1, 0, 1, 0, 1])


def test_unmixed_examples_pass_unchanged():
    batch = raw() | {"extra": jnp.arange(3)}
    batch["label"] = batch["label"].at[0].set(UNLABELLED)
    result = run(ONE_IMAGE, batch)
    assert result.keys() == batch.keys()
    for name in batch.keys() - {"image"}:
        np.testing.assert_array_equal(result[name], batch[name])
        assert result[name].dtype == batch[name].dtype


def test_standardisation_by_hand():
    batch = raw(rows=1, shape=(1, 2, 2))
    batch["image"] = jnp.array([[[[0, 255], [255, 51]]]], jnp.uint8)
    expected = [[[[-2, 8], [2, 0]]]]
    for result in (
        augment.plain((0.5, 0.2), (0.25, 0.1))(batch),
        run((), batch, mean=(0.5, 0.2), std=(0.25, 0.1)),
        augment.plain((0.5, 0.2), (0.25, 0.1))(batch | {"image": jnp.array([[[[0.0, 1.0], [1.0, 0.2]]]])}),
    ):
        np.testing.assert_allclose(result["image"], expected, atol=1e-6)
        assert result["image"].dtype == jnp.float32


def test_black_is_filled_in_before_standardisation():
    result = run(("cutout:99",), raw(), mean=(0.5,), std=(0.25,))
    np.testing.assert_array_equal(result["image"], np.full((8, 6, 5, 1), -2.0))


def test_an_example_in_a_view_is_one_image_in_every_batch():
    batch = raw()
    images = np.asarray(run(ONE_IMAGE, batch)["image"])
    rows = jnp.array([6, 1, 3])
    elsewhere = {name: values[rows] for name, values in batch.items()}
    np.testing.assert_allclose(run(ONE_IMAGE, elsewhere)["image"], images[rows], atol=1e-6)


@pytest.mark.parametrize("name", ["pad_crop:2", "cutmix:1"])
def test_index_view_and_seed_each_change_the_image(name):
    batch = raw(rows=16)
    batch["image"] = jnp.broadcast_to(batch["image"][:1], batch["image"].shape).at[8:].add(64)
    apply = jax.jit(augment.build((name,), **PLAIN))
    images = np.asarray(apply(batch)["image"])
    assert len(distinct(images[:8])) > 1
    again = apply(batch | {"view": batch["view"] + 1})["image"]
    other = run((name,), batch, seed=1)["image"]
    assert (images != again).any()
    assert (images != other).any()
    assert (again != other).any()


def test_views_are_independent_copies_and_the_first_is_the_only_one():
    batch = raw()
    one, three = run(ONE_IMAGE, batch), run(ONE_IMAGE, batch, views=3)
    assert three.keys() == one.keys() | {"image2", "image3"}
    np.testing.assert_allclose(three["image"], one["image"], atol=1e-6)
    for first, second in [("image", "image2"), ("image", "image3"), ("image2", "image3")]:
        assert (np.abs(three[first] - three[second]).max((1, 2, 3)) > 1e-3).all()


def test_transforms_apply_in_the_order_of_the_list():
    white = raw() | {"image": jnp.ones((8, 4, 4, 1))}
    alone = run(("cutout:1",), white)["image"]
    np.testing.assert_array_equal(run(("flip", "cutout:1"), white)["image"], alone)
    assert (run(("cutout:1", "flip"), white)["image"] != alone).any()


def test_another_transform_changes_no_key():
    batch = raw()
    np.testing.assert_array_equal(
        run(("flip", "pad_crop:2"), batch)["image"], run(("flip", "rotate:0", "pad_crop:2"), batch)["image"]
    )


def test_the_same_transform_twice_draws_twice():
    batch = raw(rows=32)
    assert (run(("flip", "flip"), batch)["image"] != run((), batch)["image"]).any()


def test_keys_do_not_depend_on_the_default_generator():
    batch = raw()
    expected = run(("pad_crop:2",), batch)["image"]
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(run(("pad_crop:2",), batch)["image"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 1), (5, 3, 3)])
def test_images_of_any_size_and_channels(shape):
    names = ("pad_crop:9", "flip", "rotate:180", "jitter:1,1", "cutout:2", "cutmix:1")
    channels = shape[-1]
    image = run(names, raw(3, shape), mean=(0.0,) * channels, std=(1.0,) * channels)["image"]
    assert image.shape == (3, *shape)
    assert image.dtype == jnp.float32
    assert np.all((image >= 0) & (image <= 1))


@pytest.mark.slow
def test_sharded_over_devices_is_the_same_and_compiles_once(compiled):
    def sharded(batch):
        return apply(batch)

    apply = augment.build((*ONE_IMAGE, "cutmix:1"), **PLAIN)
    step, batch = jax.jit(sharded), raw(rows=16)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    for view in range(3):
        now = batch | {"view": jnp.full(16, view, jnp.int32)}
        result = step(jax.device_put(now, NamedSharding(mesh, P("data"))))
    assert compiled("sharded") == 1
    for name, expected in jax.jit(apply)(now).items():
        np.testing.assert_allclose(result[name], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("flpi",), r"data.augment must be an augmentation, got 'flpi'. Did you mean 'flip'\?"),
        (("pad_crop",), r"'pad_crop': pad_crop takes a number of pixels, 1 or more, as in 'pad_crop:4'"),
        (("pad_crop:0",), "1 or more"),
        (("pad_crop:1.5",), "1 or more"),
        (("pad_crop:4,4",), "1 or more"),
        (("flip:0.5",), "flip takes no number, as in 'flip'"),
        (("flip:",), "takes no number"),
        (("rotate:181",), "degrees from 0 to 180, as in 'rotate:15'"),
        (("rotate:nan",), "degrees from 0 to 180"),
        (("jitter:0.2",), "brightness and contrast, both from 0 to 1, as in 'jitter:0.2,0.2'"),
        (("jitter:0.2,2",), "both from 0 to 1"),
        (("cutout:0",), "a side in pixels, 1 or more, as in 'cutout:8'"),
        (("mixup:0",), r"Beta\(alpha, alpha\), above 0, as in 'mixup:0.2'"),
        (("cutmix:inf",), r"Beta\(alpha, alpha\), above 0, as in 'cutmix:1.0'"),
        (("mixup:0.2", "flip"), r"'mixup:0.2' mixes two finished images: list it last.*'flip' follows"),
        (("mixup:0.2", "cutmix:1"), r"only one of \['cutmix', 'mixup', 'mosaic'\]"),
        ("flip", r"not the string 'flip'; write \('flip',\)"),
    ],
)
def test_a_wrong_list_is_refused(names, message):
    with pytest.raises(UserError, match=message):
        augment.build(names, **PLAIN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"views": 2, "names": ("flip", "mixup:1")},
            "'mixup:1' gives one image and one soft label, not views=2",
        ),
        ({"views": 0}, "views must be at least 1, .*, got 0"),
        ({"mean": (0.5, 0.5)}, "give both per channel"),
        ({"std": (0.0,)}, "std above 0"),
        ({"mean": (), "std": ()}, "give both per channel"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        augment.build(**{"names": ()} | PLAIN | options)


def test_wrong_images_are_refused_while_tracing():
    with pytest.raises(UserError, match="images have 3 channels, mean and std are for 1"):
        run((), raw(shape=(2, 2, 3)))
    batch = raw()
    with pytest.raises(UserError, match="images must be uint8 .*, got int32"):
        augment.plain((0.5,), (0.5,))(batch | {"image": batch["image"].astype(jnp.int32)})
