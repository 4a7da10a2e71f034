"""RandAugment and erased rectangles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.data import augment, policies

IMAGE = jnp.asarray(np.random.default_rng(0).integers(60, 120, (18, 18, 3)), jnp.float32) / 255


@pytest.mark.slow
def test_each_operation_of_rand_augment_does_its_own():
    def apply_all(magnitude):
        numbers = jnp.arange(policies.MOVES + len(policies.COLOURS))
        return jax.vmap(lambda number: policies.apply(IMAGE, number, magnitude))(numbers)

    still, moved = (np.asarray(jax.jit(apply_all)(magnitude)) for magnitude in (0.0, 1.0))
    image = np.asarray(IMAGE)
    for number in [*range(6), 6, 7, 8, 9, 10]:  # moves, none, and changes of colours: nothing at magnitude 0
        np.testing.assert_allclose(still[number], image, atol=1e-6, err_msg=str(number))
    changes = [number for number in range(len(moved)) if not np.allclose(moved[number], image, atol=1e-6)]
    assert changes == [number for number in range(len(moved)) if number != policies.MOVES]
    np.testing.assert_array_equal(moved[2][:, 8:], image[:, :-8])  # 150/331 of 18 pixels to the right, and black
    assert not moved[2][:, :8].any()
    np.testing.assert_array_equal(moved[3][8:], image[:-8])
    turned = np.asarray(augment.rotate_by(IMAGE, 30.0))
    assert np.abs(moved[4] - turned).mean() < np.abs(moved[4] - image).mean()
    np.testing.assert_allclose(moved[policies.MOVES + 6], 1 - image, atol=1e-6)


@pytest.mark.slow
def test_rand_augment_is_a_function_of_its_key_and_varies():
    keys = jax.random.split(jax.random.key(0), 24)
    draw = jax.jit(jax.vmap(lambda key: policies.rand_augment(key, IMAGE, 1, 9)))
    drawn = np.asarray(draw(keys))
    np.testing.assert_array_equal(drawn[:3], draw(keys)[:3])
    assert len({image.tobytes() for image in drawn}) >= 10
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_erased_rectangles_have_areas_and_places_in_their_bounds():
    white, keys = jnp.ones((20, 20, 1)), jax.random.split(jax.random.key(0), 300)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: policies.random_erasing(key, white, 0.5)))(keys))[..., 0]
    areas = (drawn == 0).sum((1, 2))
    assert 0.4 < np.mean(areas > 0) < 0.6
    assert areas[areas > 0].min() >= 5
    assert 110 < areas.max() <= 0.33 * 400 + 20
    for image in drawn[areas > 0][:50]:
        rows, columns = np.flatnonzero((image == 0).any(1)), np.flatnonzero((image == 0).any(0))
        assert (image == 0).sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert (drawn == 0).any(0)[1:-1, 1:-1].all()
