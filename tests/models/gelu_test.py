"""GELU in each dtype, beside the exact one in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.models.gelu import gelu

FINITE = np.arange(-(2**15), 2**15).astype(np.int16).view(jnp.bfloat16)
X = FINITE[np.isfinite(FINITE.astype(np.float32)) & (abs(FINITE.astype(np.float32)) < 30)]
"""Every number of bfloat16 up to 30."""

EXACT = X.astype(np.float64)
PHI = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in EXACT])


def test_every_number_of_bfloat16_has_its_nearest_value_or_the_next():
    values = np.asarray(gelu(jnp.asarray(X)), np.float64)
    exact = EXACT * PHI
    # Half a unit of the last place is 2^-8 of a value, and the approximation adds less than another half.
    np.testing.assert_allclose(values, exact, rtol=0.0048, atol=1e-6)
    before = np.asarray(jax.nn.gelu(jnp.asarray(X), approximate=False), np.float64)
    assert np.abs(values - exact).max() < np.abs(before - exact).max()


def test_the_derivative_in_bfloat16():
    slopes = np.asarray(jax.vmap(jax.grad(lambda x: gelu(x).astype(jnp.float32)))(jnp.asarray(X)), np.float64)
    exact = PHI + EXACT * np.exp(-np.square(EXACT) / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(slopes, exact, rtol=0, atol=0.0042)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_other_dtypes_are_those_of_jax(dtype):
    x = jnp.asarray(X).astype(dtype)
    np.testing.assert_array_equal(gelu(x), jax.nn.gelu(x, approximate=False))


def test_large_numbers_and_infinities_are_finite_where_their_gelu_is():
    x = jnp.asarray([-1e38, -30.0, 0.0, 30.0, 1e38], jnp.bfloat16)
    np.testing.assert_array_equal(gelu(x), jax.nn.relu(x))
    assert np.isfinite(jax.vmap(jax.grad(gelu))(x).astype(np.float32)).all()
