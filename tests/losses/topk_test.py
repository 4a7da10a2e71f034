"""Top-k with an exact rest: worked by hand and at the extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.losses import divergence, topk

TEACHER = jnp.log(jnp.array([[0.1, 0.5, 0.1, 0.3], [0.4, 0.3, 0.2, 0.1]]))


def test_a_top_k_of_logits_has_the_likeliest_and_the_rest():
    said = topk.from_logits(TEACHER + 3, 2)
    np.testing.assert_array_equal(said.ids, [[1, 3], [0, 1]])
    np.testing.assert_allclose(jnp.exp(said.values), [[0.5, 0.3], [0.4, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(said.log_rest), [0.2, 0.3], rtol=1e-6)
    assert topk.from_logits(TEACHER, 9).values.shape == (2, 4)


def test_kl_sees_what_the_student_puts_outside():
    """Renormalised on the two, this student would be perfect; it is not, by 0.8 log(0.8/0.4) + 0.2 log(0.2/0.6)."""
    student = jnp.log(jnp.array([[0.3, 0.25, 0.3, 0.15]]))
    expected = 0.8 * np.log(0.8 / 0.4) + 0.2 * np.log(0.2 / 0.6)
    np.testing.assert_allclose(topk.kl(topk.from_logits(TEACHER[:1], 2), student), [expected], rtol=1e-5)


def test_a_rest_shared_out_alike_is_all_of_kl():
    student = jnp.log(jnp.array([[0.2, 0.3, 0.2, 0.3]]))
    np.testing.assert_allclose(
        topk.kl(topk.from_logits(TEACHER[:1], 2), student), divergence.kl(TEACHER[:1], student), rtol=1e-5
    )


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_gap_that_leaves_nothing_in_the_rest(k):
    """The rest is exp(-1e4); as 1 - sum p it would be 0, its log infinite and its gradient gone."""
    teacher, student = jnp.array([[1e4, 0.0, 0.0, 0.0]]), jnp.array([[0.0, 0.0, 0.0, 1e4]])
    value, gradient = jax.jit(jax.value_and_grad(lambda s: topk.kl(topk.from_logits(teacher, k), s).sum()))(student)
    np.testing.assert_allclose(value, 1e4)
    np.testing.assert_allclose(gradient, [[-1.0, 0, 0, 1]], atol=1e-6)
    other = jax.jit(jax.grad(lambda s: topk.kl(topk.from_logits(student, k), s).sum()))(teacher)
    assert np.isfinite(other).all()


def test_any_leading_axes_and_k_of_each_row():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 6))
    said = topk.from_ids(logits, jnp.array([[0, 5]] * 6).reshape(2, 3, 2))
    assert said.log_rest.shape == (2, 3)
    np.testing.assert_allclose(said.values, divergence.log_probabilities(logits)[..., jnp.array([0, 5])], rtol=1e-6)
