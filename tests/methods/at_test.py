"""Attention transfer: values by hand, invariances, and refused settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods.at import AT, attention, attention_transfer

STUDENT = jnp.array([3.0, -4.0]).reshape(1, 1, 2, 1)
TEACHER = jnp.array([4.0, 3.0]).reshape(1, 1, 2, 1)


def test_by_hand():
    """Maps (.6, .8) and (.8, .6): a square of .04 at each place, a norm of the root of .08."""
    np.testing.assert_allclose(attention(STUDENT, 1.0), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(attention_transfer(STUDENT, TEACHER, 1.0), [0.04], rtol=1e-5)
    np.testing.assert_allclose(attention_transfer(STUDENT, TEACHER, 1.0, squared=False), [np.sqrt(0.08)], rtol=1e-5)


def test_power_is_applied_before_the_mean_over_channels():
    features = jnp.array([[3.0, 4.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    squares = jnp.array([[1.0, 2.0], [2.0, 1.0]]).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(attention(features, 2.0), [[1, 0]], atol=1e-7)
    np.testing.assert_allclose(attention(squares, 2.0), [[np.sqrt(0.5)] * 2], rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 10.0), st.sampled_from([1.0, 2.0, 3.0, 4.0]), st.booleans())
def test_scale_and_sign_of_features_do_not_matter(scale, power, squared):
    student, teacher = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 2))
    expected = attention_transfer(student, teacher, power, squared)
    np.testing.assert_allclose(attention_transfer(-scale * student, teacher, power, squared), expected, rtol=1e-4)
    assert (expected > 0).all()


def test_the_larger_map_is_averaged_to_the_smaller():
    small = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
    large = jnp.repeat(jnp.repeat(small, 3, 1), 3, 2)
    np.testing.assert_allclose(attention_transfer(small, large, 2.0), [0, 0], atol=1e-12)
    np.testing.assert_allclose(attention_transfer(large, small, 2.0), [0, 0], atol=1e-12)


def test_tokens_are_a_map_and_vectors_are_not():
    tokens, grid = jnp.ones((2, 9, 3)), jnp.ones((2, 3, 3, 4))
    assert AT("block0=stage1").apply(
        {}, Output(None, {"block0": tokens}), Output(None, {"stage1": grid}), {}
    ).shape == (2,)
    with pytest.raises(UserError, match="maps or tokens"):
        AT("pooled").apply({}, Output(None, {"pooled": tokens[:, 0]}), Output(None, {"pooled": tokens[:, 0]}), {})


def test_a_power_below_one_is_refused():
    AT(power=1.0).check()
    with pytest.raises(UserError, match="power"):
        AT(power=0.5).check()
