import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.codebook import Codebook
from jaxdistill.errors import UserError

VIEW = Codebook(size=4, every=3, iterations=4)
PARAMS = {"dense/kernel": jax.random.normal(jax.random.key(0), (5, 8)), "dense/bias": jnp.ones(8)}
NAME = "dense/kernel"


def distinct(array):
    return len(np.unique(np.asarray(array)))


def test_an_array_has_at_most_so_many_values():
    viewed = VIEW.view(PARAMS, VIEW.init(PARAMS))
    assert distinct(viewed[NAME]) <= 4
    np.testing.assert_array_equal(viewed["dense/bias"], PARAMS["dense/bias"])
    error = [
        float(jnp.sum((Codebook(size=n).view(PARAMS, Codebook(size=n).init(PARAMS))[NAME] - PARAMS[NAME]) ** 2))
        for n in (2, 16)
    ]
    assert error[1] < 0.1 * error[0]


def test_zeros_of_a_mask_stay_zeros():
    params = {NAME: PARAMS[NAME] * (PARAMS[NAME] > 0)}
    viewed = VIEW.view(params, VIEW.init(params))[NAME]
    np.testing.assert_array_equal(viewed == 0, params[NAME] == 0)
    assert distinct(viewed) <= 5


def test_the_gradient_passes_unchanged():
    weights = jnp.arange(40.0).reshape(5, 8)
    slope = jax.grad(lambda w: jnp.sum(VIEW.view({NAME: w}, VIEW.init(PARAMS))[NAME] * weights))(PARAMS[NAME])
    np.testing.assert_array_equal(slope, weights)


def test_a_centre_moves_with_its_weights_between_choices():
    extra = VIEW.init(PARAMS)
    moved = {NAME: PARAMS[NAME] + 10}
    np.testing.assert_allclose(VIEW.view(moved, extra)[NAME], VIEW.view(PARAMS, extra)[NAME] + 10, rtol=1e-5)


def test_the_nearest_values_are_chosen_anew_every_third_update():
    extra = VIEW.init(PARAMS)
    other = {NAME: jax.random.normal(jax.random.key(1), (5, 8))}
    update = jax.jit(VIEW.update)
    for step in (1, 2, 4):
        same = update(extra, other, jnp.int32(step)).state
        assert all(bool(jnp.all(same[key] == extra.state[key])) for key in same)
    chosen = update(extra, other, jnp.int32(3))
    assert {key: x.dtype for key, x in chosen.state.items()} == {key: x.dtype for key, x in extra.state.items()}
    error = [float(jnp.sum((VIEW.view(other, extra)[NAME] - other[NAME]) ** 2)) for extra in (extra, chosen)]
    assert error[1] < 0.5 * error[0]


def test_each_scanned_layer_has_a_codebook():
    stacked = {"blocks/up/kernel": jnp.stack([PARAMS[NAME], 100 * PARAMS[NAME]])}
    viewed = VIEW.view(stacked, VIEW.init(stacked))["blocks/up/kernel"]
    assert distinct(viewed[0]) <= 4
    np.testing.assert_allclose(viewed[1], 100 * viewed[0], rtol=1e-4)


@pytest.mark.parametrize("size", [1, 257])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(UserError, match=r"size must be in \[2, 256\]"):
        Codebook(size=size).check(PARAMS)
