import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.fake_quantize import (
    Grid,
    Limits,
    fake_quantize,
    first_step,
    fit_grid,
    from_integers,
    grid_of_range,
    integer_limits,
    learned_step,
    straight_through,
    to_integers,
    value_range,
)

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("bits", "symmetric", "expected"),
    [(8, True, (-127, 127)), (8, False, (-128, 127)), (4, True, (-7, 7)), (2, True, (-1, 1))],
)
def test_the_integers_of_so_many_bits(bits, symmetric, expected):
    assert integer_limits(bits, symmetric) == expected


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("shape", "axes"), [((7,), (0,)), ((3, 3, 2, 5), (0, 1, 2)), ((2, 5, 3), (1,)), ((6, 1), (0, 1))]
)
def test_the_error_is_at_most_half_a_step(shape, axes, symmetric):
    for bits, offset in itertools.product((2, 3, 8), (0.0, 2.0, -30.0)):
        x = RANDOM.normal(offset, RANDOM.uniform(1e-3, 10), shape).astype(np.float32)
        grid, limits = fit_grid(x, axes, bits, symmetric=symmetric), integer_limits(bits, symmetric)
        assert grid.scale.shape == tuple(1 if i in axes else n for i, n in enumerate(shape))
        q = np.asarray(to_integers(x, grid, limits))
        assert limits.lowest <= q.min()
        assert q.max() <= limits.highest
        assert np.array_equal(q, np.rint(q))
        error = np.abs(np.asarray(from_integers(q, grid)) - x)
        assert np.all(error <= 0.5 * np.asarray(grid.scale) + 1e-6 * np.abs(x))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("value", [0.0, -3.0, 1e-42])
def test_a_constant_array_stays_itself(value, symmetric):
    x = jnp.full((4, 2), value)
    grid = fit_grid(x, (0,), 4, symmetric=symmetric)
    rounded, slope = jax.value_and_grad(lambda x: jnp.sum(fake_quantize(x, grid, integer_limits(4, symmetric))))(x)
    np.testing.assert_allclose(rounded, 8 * value, rtol=1e-6, atol=1e-38)
    np.testing.assert_array_equal(slope, 1)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_masked_value_stays_zero(symmetric):
    x = jnp.array([0.0, 1.37, 2.0, 5.1])
    grid = fit_grid(x, (0,), 3, symmetric=symmetric)
    assert fake_quantize(x, grid, integer_limits(3, symmetric))[0] == 0


def test_a_percentile_is_a_value_of_the_array_on_each_side():
    x = jnp.arange(-50.0, 51.0)
    assert [float(edge[0]) for edge in value_range(x, (0,), 90)] == [-40, 40]
    assert [float(edge[0]) for edge in value_range(x, (0,))] == [-50, 50]
    grid = fit_grid(x, (0,), 8, percentile=90.0)
    np.testing.assert_allclose(grid.scale, 45 / 127, rtol=1e-6)  # of magnitudes


def test_the_gradient_passes_unless_a_value_is_clipped():
    grid, limits = Grid(jnp.array([0.5]), jnp.array([0.0])), Limits(-2, 2)
    x = jnp.array([-1.3, -1.2, -0.3, 0.1, 0.9, 1.24, 1.26])
    values, pull = jax.vjp(lambda x: fake_quantize(x, grid, limits), x)
    np.testing.assert_array_equal(values, [-1, -1, -0.5, 0, 1, 1, 1])
    np.testing.assert_array_equal(pull(jnp.arange(1.0, 8.0))[0], [0, 2, 3, 4, 5, 6, 0])


def test_an_affine_grid_has_the_number_zero():
    grid = grid_of_range(jnp.array([-1.0]), jnp.array([6.5]), 4, symmetric=False)
    np.testing.assert_allclose(grid.scale, 0.5)
    assert grid.zero == -6  # of -8 .. 7
    x = jnp.array([-1.0, 0.0, 0.3, 6.5, 7.3])
    np.testing.assert_array_equal(to_integers(x, grid, integer_limits(4, False)), [-8, -6, -5, 7, 7])


def test_a_learned_step_has_the_gradients_of_the_paper():
    """Equations 3 and 5 with n = -2, p = 2: v = -3.2, -0.6, 0.3, 1.4, 2.6."""
    step, limits, count = 0.5, Limits(-2, 2), 8
    x = jnp.array([-1.6, -0.3, 0.15, 0.7, 1.3])
    weights = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0])
    values, pull = jax.vjp(
        lambda x, step: learned_step(x, Grid(step, jnp.zeros(1)), limits, count), x, jnp.array([step])
    )
    np.testing.assert_allclose(values, [-1, -0.5, 0, 0.5, 1])
    by_x, by_step = pull(weights)
    np.testing.assert_array_equal(by_x, [0, 2, 3, 4, 0])
    slopes = np.array([-2, -1 + 0.6, 0 - 0.3, 1 - 1.4, 2])
    np.testing.assert_allclose(by_step, [np.sum(slopes * weights) / np.sqrt(count * 2)], rtol=1e-5)


def test_an_unsigned_learned_step_counts_from_its_zero():
    """A zero of -8 on 4 bits makes n = 0 and p = 15."""
    grid = Grid(jnp.array([0.1]), jnp.array([-8.0]))
    step = jax.grad(lambda s: jnp.sum(learned_step(jnp.array([-0.2, 9.0]), grid._replace(scale=s), Limits(-8, 7), 4)))
    np.testing.assert_allclose(step(grid.scale), [(0 + 15) / np.sqrt(4 * 15)], rtol=1e-6)


def test_the_first_step_is_that_of_the_paper():
    np.testing.assert_allclose(first_step(jnp.array(0.3), jnp.array(7.0)), 2 * 0.3 / np.sqrt(7), rtol=1e-6)
    assert first_step(jnp.array(0.0), jnp.array(7.0)) == 1


def test_a_replaced_array_is_bit_equal_and_passes_its_gradient():
    x, replaced = jnp.array([1.0, 3.0]), jnp.array([1e-9, 7.0])
    values, pull = jax.vjp(lambda x, y: straight_through(x, y, jnp.array([True, False])), x, replaced)
    np.testing.assert_array_equal(values, replaced)
    by_x, by_replaced = pull(jnp.array([2.0, 5.0]))
    np.testing.assert_array_equal(by_x, [2, 0])
    np.testing.assert_array_equal(by_replaced, 0)


def test_bfloat16_stays_bfloat16():
    x = jnp.array([0.3, 1.0], jnp.bfloat16)
    grid = fit_grid(x, (0,), 8)
    slope = jax.grad(lambda x: jnp.sum(learned_step(x, grid, integer_limits(8), 2)).astype(jnp.float32))(x)
    assert fake_quantize(x, grid, integer_limits(8)).dtype == slope.dtype == jnp.bfloat16
