"""Variational information distillation: values by hand, learned params, and refused settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods.vid import VID, inverse_softplus, variance_of, vid


def result(x):
    return Output(None, {"a": x})


def noise(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_by_hand():
    """Off by 2 with variance 4: (1 + log 4) / 2; right with variance 1: 0."""
    mean, teacher = jnp.array([[1.0, 3.0]]), jnp.array([[3.0, 3.0]])
    value = vid(mean, teacher, jnp.array([[4.0, 1.0]]))
    np.testing.assert_allclose(value, [(1 + np.log(4)) / 4], rtol=1e-6)


@pytest.mark.parametrize("value", [1e-3, 0.5, 5.0, 200.0])
def test_inverse_softplus_inverts_softplus(value):
    np.testing.assert_allclose(jax.nn.softplus(inverse_softplus(value)), value, rtol=1e-4)


def test_variances_start_at_the_field_and_stay_above_the_least():
    method = VID(layers="a", initial_variance=2.0, least_variance=0.5)
    params = method.init(jax.random.key(0), result(noise(2, 4, 4, 3)), result(noise(2, 2, 2, 5)), {})["params"]
    np.testing.assert_allclose(variance_of(params["a_variance"], 0.5, 4), jnp.full((1, 1, 1, 5), 2.0), rtol=1e-5)
    np.testing.assert_allclose(variance_of(jnp.full(5, -200.0), 0.5, 1), jnp.full(5, 0.5))


def test_variances_learn():
    """A library's optimiser never meets them."""
    left, right, method = result(noise(2, 2, 2, 3)), result(noise(2, 2, 2, 5, seed=1)), VID(layers="a")
    params = method.init(jax.random.key(0), left, right, {})["params"]
    grads = jax.jit(jax.grad(lambda params: jnp.mean(method.apply({"params": params}, left, right, {}))))(params)
    assert set(grads) == {"a_variance", "a_conv0", "a_conv1", "a_conv2"}
    assert all(jnp.any(grad != 0) for grad in jax.tree.leaves(grads))


def test_vectors_and_tokens_are_compared_place_by_place():
    for left, right in (
        (noise(2, 3), noise(2, 5)),
        (noise(2, 16, 3), noise(2, 2, 2, 5)),
        (noise(2, 7, 3), noise(2, 7, 5)),
    ):
        value, _ = VID(layers="a").init_with_output(jax.random.key(0), result(left), result(right), {})
        assert value.shape == (2,)
    with pytest.raises(UserError, match="places must match"):
        VID(layers="a").init(jax.random.key(0), result(noise(2, 7, 3)), result(noise(2, 8, 5)), {})


@pytest.mark.parametrize("fields", [{"least_variance": 0.0}, {"initial_variance": 1e-6}])
def test_invalid_fields_are_refused(fields):
    VID().check()
    with pytest.raises(UserError, match="variance"):
        VID(**fields).check()
