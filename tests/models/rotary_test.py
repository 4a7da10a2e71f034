"""Rotary positions by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.models import rotary

LLAMA_3_1 = (8.0, 1.0, 4.0, 8192.0)


def close(got, expected, rtol=1e-5):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-6)


def test_rotary_turns_pairs_of_halves_by_their_frequency():
    pairs = jnp.array([1.0, 1.0, 2.0, 0.0]).reshape(1, 1, 1, 4)  # (1, 2) and (1, 0)
    turned = rotary.rotate(pairs, jnp.array([[3]]), base=100.0)[0, 0, 0]
    sin, cos = math.sin(3), math.cos(3)
    close(turned, [cos - 2 * sin, math.cos(0.3), sin + 2 * cos, math.sin(0.3)])


def test_rotary_is_relative():
    """By hand: the product of a query at i and a key at j is the cosine of (i - j), wherever they are."""
    unit = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)

    def product(i, j):
        query, key = (rotary.rotate(unit, jnp.array([[place]]), base=10.0) for place in (i, j))
        return jnp.sum(query * key)

    for i, j in ((0, 0), (0, 1), (1, 0), (7, 8), (1000, 1001)):
        close(product(i, j), math.cos(i - j), rtol=1e-4)


@pytest.mark.parametrize(
    ("wavelength", "fraction"),
    [
        (2047, 1),  # below 8192 / 4: as it was
        (4096, 1 / 3 + 2 / 3 / 8),  # 8192 / 4096 = 2 is a third of the way from low = 1 to high = 4
        (8193, 1 / 8),
    ],
)
def test_scaling_lengthens_long_waves(wavelength, fraction):
    frequency = 2 * math.pi / wavelength
    scaled = rotary.rotary_frequencies(4, frequency**-2, LLAMA_3_1)
    np.testing.assert_allclose(scaled, [1, frequency * fraction], rtol=1e-6)
    pair = jnp.array([0.0, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    turned = rotary.rotate(pair, jnp.array([[100]]), frequency**-2, LLAMA_3_1)[0, 0, 0]
    close(turned[1::2], [math.cos(100 * frequency * fraction), math.sin(100 * frequency * fraction)], rtol=1e-4)


@pytest.mark.parametrize("scaling", [(8.0,), (8.0, 4.0, 1.0, 8192.0), (0.0, 1.0, 4.0, 8192.0)])
def test_other_numbers_are_refused(scaling):
    rotary.check_scaling(LLAMA_3_1)
    with pytest.raises(UserError, match="rotary_scaling must be four positive numbers .factor, low, high, length"):
        rotary.check_scaling(scaling)


def test_bfloat16_is_rotated_by_the_same_numbers_and_so_is_its_gradient():
    """A product with a permutation swaps the halves; it rounds nothing."""
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 8), jnp.bfloat16)
    positions = jnp.arange(5)[None]

    def rotate_wide(x):
        return rotary.rotate(x.astype(jnp.float32), positions, 100.0).astype(jnp.bfloat16)

    expected, transpose = jax.vjp(rotate_wide, x)
    rotated, transpose_by_product = jax.vjp(lambda x: rotary.rotate(x, positions, 100.0), x)
    np.testing.assert_array_equal(rotated, expected)
    np.testing.assert_array_equal(transpose_by_product(expected)[0], transpose(expected)[0])
