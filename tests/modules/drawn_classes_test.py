"""Drawn classes: their expected numbers, and the mean of a gradient over draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.losses import divergence
from jaxdistill.modules import drawn_classes

CLASSES, DRAWS, K = 40, 1000, 16
TEACHER, STUDENT = (2 * jax.random.normal(jax.random.key(number), (3, CLASSES)) for number in range(2))


def test_a_class_is_drawn_as_often_as_its_probability():
    """Where the cumulative probability passes 1/8, 3/8, 5/8, 7/8, worked by hand."""
    logits = jnp.log(jnp.array([0.5, 0.1, 0.4]))
    drawn = drawn_classes.draw(logits, jnp.array(0.5), 4)
    assert drawn.ids.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(
        drawn.negative_entropy, 0.5 * np.log(0.5) + 0.1 * np.log(0.1) + 0.4 * np.log(0.4), rtol=1e-6
    )
    uniform = (jnp.arange(DRAWS) + 0.5) / DRAWS
    ids = jax.vmap(lambda u: drawn_classes.draw(logits, u, 4).ids)(uniform)
    counts = np.bincount(np.asarray(ids).reshape(-1), minlength=3) / DRAWS
    np.testing.assert_allclose(counts, [2, 0.4, 1.6], atol=4 / DRAWS)


def test_the_mean_gradient_is_that_of_all_classes_and_not_of_the_likeliest():
    """Within 3 standard errors over 1,000 draws; a renormalised top-k is outside."""

    def gradient(uniform):
        drawn = drawn_classes.draw(TEACHER, uniform, K)
        return jax.grad(lambda student: jnp.sum(drawn_classes.kl(drawn, student)))(STUDENT)

    direction = jax.random.normal(jax.random.key(3), STUDENT.shape)
    exact = jax.grad(lambda student: jnp.sum(divergence.kl(TEACHER, student)))(STUDENT)
    uniform = jax.random.uniform(jax.random.key(2), (DRAWS, 3))
    each = np.asarray(jax.jit(jax.vmap(lambda u: jnp.sum(gradient(u) * direction)))(uniform))
    error = each.std(ddof=1) / DRAWS**0.5
    expected = float(jnp.sum(exact * direction))
    assert abs(each.mean() - expected) <= 3 * error
    values, ids = jax.lax.top_k(TEACHER, K)
    kept = jnp.put_along_axis(jnp.zeros_like(TEACHER), ids, jax.nn.softmax(values), -1, inplace=False)
    biased = float(jnp.sum((jax.nn.softmax(STUDENT) - kept) * direction))
    assert abs(biased - expected) > 3 * error


def test_the_form_lists_some_classes():
    drawn = drawn_classes.draw(TEACHER, jnp.zeros(3), K)
    assert (core.num_classes(drawn), core.prediction_shape(drawn)) == (CLASSES, (3,))
    assert core.describe_logits(drawn) == "16 drawn classes (16,)"
    with pytest.raises(UserError, match="logits must cover every class, got drawn ones only"):
        core.dense(drawn)
