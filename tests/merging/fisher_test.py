"""The diagonal of the Fisher information."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.merging.fisher import diagonal_fisher
from jaxdistill.models import mlp


def numbers(tree):
    return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(tree)])


@pytest.fixture(scope="module")
def classifier():
    model = mlp.MLP(classes=3, widths=(4,))
    x = jax.random.normal(jax.random.key(0), (8, 5))
    params = model.init(jax.random.key(1), x)["params"]
    batch = {"image": x, "mask": jnp.float32([1, 1, 1, 1, 1, 1, 0, 0]), "index": jnp.arange(8)}
    return lambda params, batch: model.apply({"params": params}, batch["image"]).logits, params, batch


def test_the_fisher_is_that_of_each_example_and_class(classifier):
    apply, params, batch = classifier
    probabilities = np.asarray(jax.nn.softmax(apply(params, batch)))[:6]
    jacobian = jax.jit(jax.jacrev(lambda params: jax.nn.log_softmax(apply(params, batch))))(params)
    squares = jax.tree.map(lambda x: np.asarray(x)[:6] ** 2, jacobian)  # [examples, classes, *param]
    expected = jax.tree.map(lambda x: np.einsum("nk,nk...->...", probabilities, x) / 6, squares)
    for rows in (1, 4):
        fisher = diagonal_fisher(apply, params, [batch], rows=rows)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7), fisher, expected)
    halves = [{name: x[part] for name, x in batch.items()} for part in (slice(0, 4), slice(4, 8))]
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7),
        diagonal_fisher(apply, params, halves, rows=2),
        expected,
    )


def test_drawn_classes_come_near_the_exact_expectation(classifier):
    apply, params, batch = classifier
    exact = numbers(diagonal_fisher(apply, params, [batch]))
    drawn = numbers(diagonal_fisher(apply, params, [batch], samples=2000, key=jax.random.key(0)))
    np.testing.assert_allclose(drawn, exact, rtol=0.15, atol=0.02 * exact.max())
    assert (drawn != exact).any()


def test_a_fisher_needs_a_key_for_draws_and_whole_parts(classifier):
    apply, params, batch = classifier
    with pytest.raises(UserError, match="key must be set for samples=1"):
        diagonal_fisher(apply, params, [batch], samples=1)
    with pytest.raises(UserError, match="rows must divide the batch of 8 examples, got 3"):
        diagonal_fisher(apply, params, [batch], rows=3)
