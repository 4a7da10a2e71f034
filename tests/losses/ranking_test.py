"""Pairwise ranking, worked by hand."""

import jax.numpy as jnp
import numpy as np

from jaxdistill.losses import ranking

TEACHER, STUDENT = jnp.array([[3.0, 1.0, 1.0]]), jnp.array([[0.0, 0.5, -2.0]])


def test_only_classes_that_the_teacher_distinguishes_are_pairs():
    np.testing.assert_array_equal(ranking.order(TEACHER), [[[0, 1, 1], [0, 0, 0], [0, 0, 0]]])


def test_hinge():
    """The pairs (0, 1) and (0, 2): 1 - (0 - 0.5) and max(0, 1 - (0 + 2))."""
    np.testing.assert_allclose(ranking.mean(ranking.hinge(STUDENT, 1.0), ranking.order(TEACHER)), [0.75])
    own = ranking.mean(ranking.hinge(STUDENT, ranking.gaps(TEACHER)), ranking.order(TEACHER))
    np.testing.assert_allclose(own, [(2.5 + 0) / 2])


def test_logistic():
    expected = (np.log(1 + np.exp(0.5)) + np.log(1 + np.exp(-2))) / 2
    np.testing.assert_allclose(ranking.mean(ranking.logistic(STUDENT), ranking.order(TEACHER)), [expected], rtol=1e-6)


def test_no_pairs_no_loss():
    flat = jnp.ones((2, 3))
    np.testing.assert_array_equal(ranking.mean(ranking.logistic(STUDENT), ranking.order(flat[:1])), [0])
