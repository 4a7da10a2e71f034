import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.k_means import assign, centre_means, first_centres, k_means

RANDOM = np.random.default_rng(0)


def error(values, centres, counted=True):
    return float(np.sum(np.min((values[:, None] - np.asarray(centres)[None]) ** 2, 1) * counted))


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_no_iteration_increases_the_error(offset):
    values = (RANDOM.standard_t(3, 200) + offset).astype(np.float32)
    counted = jnp.ones(200, bool)
    centres = first_centres(values, counted, 8)
    errors = [error(values, centres)]
    iterate = jax.jit(lambda centres: k_means(values, counted, centres, 1))
    for _ in range(12):
        centres = iterate(centres)
        errors.append(error(values, centres))
    assert np.all(np.diff(errors) <= 1e-5 * errors[0])
    assert errors[-1] < 0.8 * errors[0]
    np.testing.assert_array_equal(centres, np.sort(centres))


def test_separate_groups_are_found_by_hand():
    values = jnp.array([1.0, 5.0, 1.2, 9.0, 5.2, 0.8])
    centres = k_means(values, jnp.ones(6, bool), first_centres(values, jnp.ones(6, bool), 3), 5)
    np.testing.assert_allclose(centres, [1, 5.1, 9], rtol=1e-6)
    np.testing.assert_array_equal(assign(values, centres), [0, 1, 0, 2, 1, 0])


def test_a_value_that_does_not_count_moves_no_centre():
    values, counted = jnp.array([0.0, 0.0, 2.0, 4.0]), jnp.array([False, False, True, True])
    assert first_centres(values, counted, 3).tolist() == [2, 3, 4]
    index = jnp.array([0, 0, 0, 2])
    np.testing.assert_array_equal(centre_means(values, counted, index, jnp.array([1.0, 3.0, 5.0])), [2, 3, 4])


def test_an_empty_or_constant_array_has_finite_centres():
    for values, counted in ((jnp.zeros(4), jnp.zeros(4, bool)), (jnp.full(4, 3.0), jnp.ones(4, bool))):
        centres = k_means(values, counted, first_centres(values, counted, 5), 3)
        assert error(values, centres) == 0
        assert jnp.all(jnp.isfinite(centres))


def test_the_nearest_centre_is_found_by_bisection():
    values, centres = RANDOM.normal(size=50), np.sort(RANDOM.normal(size=7))
    nearest = np.argmin(np.abs(values[:, None] - centres[None]), 1)
    np.testing.assert_array_equal(jax.jit(assign)(values, centres), nearest)
