"""The few functions over the types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError


def test_mean_is_over_what_the_mask_keeps():
    values, mask = jnp.array([1.0, 2.0, 30.0]), jnp.array([1.0, 1.0, 0.0])
    assert core.mean(values, mask) == 1.5
    assert core.mean(values, mask, share=0.5) == 0.75
    assert core.mean(jnp.stack([values, values], -1), mask) == 1.5  # an example's mask counts for its predictions


def test_masked_values_may_be_anything():
    values, mask = jnp.array([1.0, jnp.nan, jnp.inf]), jnp.array([1.0, 0.0, 0.0])
    value, gradient = jax.value_and_grad(core.mean)(values, mask)
    assert value == 1
    np.testing.assert_array_equal(gradient, [1, 0, 0])


def test_mean_of_bfloat16_is_summed_in_float32():
    assert core.mean(jnp.ones(1000, jnp.bfloat16), jnp.ones(1000)) == 1
    assert core.mean(jnp.ones(4, jnp.bfloat16), jnp.ones(4)).dtype == jnp.float32


def test_a_tap_that_is_missing_is_answered_with_those_there_are():
    output = core.Output(jnp.zeros((1, 2)), {"stage1": jnp.zeros(1), "pooled": jnp.zeros(1)})
    assert output.tap("stage1").shape == (1,)
    with pytest.raises(UserError, match=r"no tap 'stge1'; did you mean 'stage1'\? there are \['pooled', 'stage1'\]"):
        output.tap("stge1")


def test_split_and_merge():
    params, rest = core.split({"params": 1, "batch_stats": 2})
    assert (params, rest) == (1, {"batch_stats": 2})
    known = core.merge({"student": params}, {"student": rest}, {"teacher": {"params": 3}})
    assert known == {"student": {"params": 1, "batch_stats": 2}, "teacher": {"params": 3}}
