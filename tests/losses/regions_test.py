"""Means of the features of one class."""

import jax.numpy as jnp
import numpy as np

from jaxdistill.losses import regions


def test_class_means_by_hand():
    x = jnp.array([[1.0, 0], [3, 2], [5, 5], [9, 9]]).reshape(1, 2, 2, 2)
    means, count = regions.class_means(x, regions.one_hot(jnp.array([[[0, 0], [2, -1]]]), 3))
    np.testing.assert_allclose(means[0], [[2, 1], [0, 0], [5, 5]])
    np.testing.assert_array_equal(count[0], [2, 0, 1])
