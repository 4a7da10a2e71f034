"""Which tokens count, and means over them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.losses import token


def test_tokens_of_examples_that_count():
    batch = {"tokens": jnp.zeros((2, 3), int), "token_mask": jnp.array([[1, 1, 0], [1, 0, 0]])}
    batch["mask"] = jnp.array([1.0, 0.0])
    np.testing.assert_array_equal(token.valid_tokens(batch), [[1, 1, 0], [0, 0, 0]])
    batch.pop("token_mask")
    np.testing.assert_array_equal(token.valid_tokens(batch), [[1, 1, 1], [0, 0, 0]])


def test_mean_over_the_tokens_of_each_example():
    """Padding may be infinite, and an example without tokens is 0."""
    values = jnp.array([[1.0, 5.0, jnp.inf], [2.0, jnp.nan, 4.0], [1.0, 2.0, 3.0]])
    there = jnp.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(token.mean(values, there), [3, 3, 0])


def test_distances_by_hand():
    student, teacher = jnp.array([[[3.0, 4.0], [0.0, 0.0]]]), jnp.array([[[4.0, 3.0], [1.0, 0.0]]])
    np.testing.assert_allclose(token.squared(student, teacher), [[1.0, 0.5]])
    np.testing.assert_allclose(token.cosine(student, teacher), [[1 - 24 / 25, 1.0]], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: token.cosine(x, teacher).sum()))(student)
    assert np.isfinite(gradient).all()
