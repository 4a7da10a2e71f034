"""Neuron selectivity transfer: values by hand, and the two formulas."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdistill.methods import nst


def channels(*maps):
    """Channels given by their values at each place: `[1, 1, places, channels]`."""
    return jnp.array(maps).T[None, None]


def test_by_hand():
    """Orthogonal: 1 + 1 - 0. One of two: k(s, s) = 1, k(t, t) = (1 + 0 + 0 + 1) / 4, k(s, t) = (1 + 0) / 2."""
    left, right = channels([5.0, 0.0]), channels([0.0, 7.0])
    np.testing.assert_allclose(nst.nst(left, right), [2], rtol=1e-6)
    np.testing.assert_allclose(nst.nst(left, channels([3.0, 0.0], [0.0, 4.0])), [1 + 0.5 - 2 * 0.5], rtol=1e-6)
    np.testing.assert_allclose(nst.nst(left, 9 * left), [0], atol=1e-7)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([(1, 3, 2), (4, 2, 5)]), st.booleans())
def test_both_formulas_agree(seed, shape, silent):
    """Also with a channel that is 0 everywhere, and never below 0."""
    places, left_side, right_side = shape
    student = jax.random.normal(jax.random.key(seed), (2, 1, places, left_side))
    teacher = jax.random.normal(jax.random.key(seed + 1), (2, 1, places, right_side))
    student = nst._normalize_channels(student.at[..., 0].multiply(1.0 - silent))
    teacher = nst._normalize_channels(teacher)
    value = nst.over_places(student, teacher)
    assert (value >= 0).all()
    np.testing.assert_allclose(nst.over_channels(student, teacher), value, rtol=1e-4, atol=1e-6)


def test_the_cheaper_formula_is_chosen():
    """For many places no array of places by places is made, and for many channels none of channels by channels."""
    few, many = 4, 1024
    for side, width in ((32, few), (2, many)):
        x = jax.ShapeDtypeStruct((1, side, side, width), jnp.float32)
        made = str(jax.make_jaxpr(nst.nst)(x, x))
        assert f"[1,{many},{many}]" not in made


def test_order_of_channels_does_not_matter():
    student, teacher = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 5))
    np.testing.assert_allclose(nst.nst(student[..., ::-1], teacher), nst.nst(student, teacher), rtol=1e-5)


def test_the_larger_map_is_averaged_to_the_smaller():
    small = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
    large = jnp.repeat(jnp.repeat(small, 2, 1), 2, 2)
    np.testing.assert_allclose(nst.nst(large, small), [0, 0], atol=1e-6)
