import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.codebook import Codebook
from jaxdistill.errors import UserError

VIEW = Codebook(size=4, every=3, iterations=4)
PARAMS = {"dense/kernel": jax.random.normal(jax.random.key(0), (5, 8)), "dense/bias": jnp.ones(8)}
NAME = "dense/kernel"


init, view, update = jax.jit(VIEW.init), jax.jit(VIEW.view), jax.jit(VIEW.update)


def distinct(array):
    return len(np.unique(np.asarray(array)))


def test_an_array_has_at_most_so_many_values():
    viewed = view(PARAMS, init(PARAMS))
    assert distinct(viewed[NAME]) <= 4
    np.testing.assert_array_equal(viewed["dense/bias"], PARAMS["dense/bias"])
    assert np.mean((viewed[NAME] - PARAMS[NAME]) ** 2) < 0.15 * np.var(PARAMS[NAME])


def test_zeros_of_a_mask_stay_zeros():
    params = {**PARAMS, NAME: PARAMS[NAME] * (PARAMS[NAME] > 0)}
    viewed = view(params, init(params))[NAME]
    np.testing.assert_array_equal(viewed == 0, params[NAME] == 0)
    assert distinct(viewed) <= 5


def test_the_gradient_passes_unchanged():
    weights = jnp.arange(40.0).reshape(5, 8)
    extra = init(PARAMS)
    slope = jax.jit(jax.grad(lambda w: jnp.sum(VIEW.view({NAME: w}, extra)[NAME] * weights)))(PARAMS[NAME])
    np.testing.assert_array_equal(slope, weights)


def test_a_centre_moves_with_its_weights_between_choices():
    extra = init(PARAMS)
    moved = {**PARAMS, NAME: PARAMS[NAME] + 10}
    np.testing.assert_allclose(view(moved, extra)[NAME], view(PARAMS, extra)[NAME] + 10, rtol=1e-5)


def test_the_nearest_values_are_chosen_anew_every_third_update():
    extra = init(PARAMS)
    other = {**PARAMS, NAME: jax.random.normal(jax.random.key(1), (5, 8))}
    for step in (1, 2, 4):
        same = update(extra, other, jnp.int32(step)).state
        assert all(bool(jnp.all(same[key] == extra.state[key])) for key in same)
    chosen = update(extra, other, jnp.int32(3))
    assert {key: x.dtype for key, x in chosen.state.items()} == {key: x.dtype for key, x in extra.state.items()}
    error = [float(jnp.sum((view(other, extra)[NAME] - other[NAME]) ** 2)) for extra in (extra, chosen)]
    assert error[1] < 0.5 * error[0]


def test_each_scanned_layer_has_a_codebook():
    stacked = {"blocks/up/kernel": jnp.stack([PARAMS[NAME], 100 * PARAMS[NAME]])}
    viewed = view(stacked, init(stacked))["blocks/up/kernel"]
    assert distinct(viewed[0]) <= 4
    np.testing.assert_allclose(viewed[1], 100 * viewed[0], rtol=1e-4)


@pytest.mark.parametrize("size", [1, 257])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(UserError, match=r"size must be in \[2, 256\]"):
        Codebook(size=size).check(PARAMS)
