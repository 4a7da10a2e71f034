"""Norms, distances and correlations, and their gradients at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.losses import distance


def test_by_hand():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(distance.norm(x), [5.0, 0.0])
    np.testing.assert_allclose(distance.normalize(x), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(distance.normalize(x, eps=5.0), [[0.3, 0.4], [0.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(distance.cosine(x, jnp.array([[4.0, 3.0], [1.0, 0.0]])), [0.96, 0.0], rtol=1e-6)
    np.testing.assert_allclose(distance.mean_squared(x, jnp.zeros((2, 2))), [12.5, 0.0])
    assert distance.norm(jnp.ones((2, 3, 4)), (1, 2), keepdims=True).shape == (2, 1, 1)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: jnp.sum(distance.norm(x)),
        lambda x: jnp.sum(distance.normalize(x)),
        lambda x: jnp.sum(distance.cosine(x, jnp.ones_like(x))),
        lambda x: jnp.sum(distance.norm(x - x)),
    ],
)
def test_gradients_at_zero_are_zero(loss):
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(jnp.zeros((1, 3))), 0.0)
