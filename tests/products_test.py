"""Products with weights: those of `jax.lax.dot_general`, with a gradient that no transposed operand is written for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import products

HEADS = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
OUT = jax.random.normal(jax.random.key(1), (3, 4, 6))
INPUTS = jax.random.normal(jax.random.key(2), (2, 5, 8))
QUERY = jax.random.normal(jax.random.key(3), (8, 3, 4))


def loss(product, dimensions, left, right):
    return jnp.sum(jnp.sin(product(left, right, dimensions)))


@pytest.mark.parametrize(
    ("left", "right", "dimensions"),
    [(INPUTS, QUERY, (((2,), (0,)), ((), ()))), (HEADS, OUT, (((2, 3), (0, 1)), ((), ())))],
    ids=["one axis", "two axes"],
)
def test_values_and_gradients_are_those_of_lax(left, right, dimensions):
    ours, theirs = (
        jax.value_and_grad(functools.partial(loss, product, dimensions), argnums=(0, 1))(left, right)
        for product in (products.dot_general, jax.lax.dot_general)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), ours, theirs)


def test_a_product_of_matrices():
    kernel = QUERY.reshape(8, 12)
    np.testing.assert_allclose(products.multiply(INPUTS, kernel), INPUTS @ kernel, rtol=1e-6)


@pytest.mark.parametrize("width", [4, 16], ids=["wide gradient", "narrow gradient"])
def test_the_narrower_operand_is_on_the_left_of_the_gradient_by_weights(width):
    """XLA writes the left one transposed."""

    def of(inputs, kernel):
        return jnp.sum(jnp.sin(products.multiply(inputs, kernel)))

    program = jax.jit(jax.grad(of, argnums=1)).lower(jnp.ones((10, width)), jnp.ones((width, 8))).as_text()
    least, largest = sorted((width, 8))
    expected = f"[0] x [0] : (tensor<10x{least}xf32>, tensor<10x{largest}xf32>) -> tensor<{least}x{largest}xf32>"
    assert expected in program.replace(", precision = [DEFAULT, DEFAULT]", "")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_below_float32_it_is_the_product_of_lax(dtype):
    left, right = INPUTS.astype(dtype), QUERY.reshape(8, 12).astype(dtype)
    program = jax.make_jaxpr(functools.partial(products.multiply, dtype=jnp.float32))(left, right)
    assert [equation.primitive.name for equation in program.eqns] == ["dot_general"]
