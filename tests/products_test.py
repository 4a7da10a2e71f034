"""Products with weights: those of `jax.lax.dot_general`, with a gradient that no transposed operand is written for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

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


FLAT, KERNEL = INPUTS.reshape(10, 8), QUERY.reshape(8, 12)


@functools.partial(jax.jit, static_argnums=(0, 1))
def differentiated(transform, product):
    def of(left, right):
        return jnp.sum(jnp.sin(product(jnp.sin(product(left, right)), right.T)))

    return transform(of)(FLAT, KERNEL)


TRANSFORMS = {
    "jvp": lambda of: lambda *x: jax.jvp(of, x, x),
    "linearize": lambda of: lambda *x: jax.linearize(of, *x)[1](*x),
    "jvp by inputs": lambda of: lambda left, right: jax.jvp(lambda x: of(x, right), (left,), (left,)),
    "forward over reverse": lambda of: lambda *x: jax.jvp(jax.grad(of, (0, 1)), x, x),
    "reverse over reverse": lambda of: jax.grad(lambda *x: jnp.sum(jax.grad(of, 1)(*x) ** 2), (0, 1)),
    "reverse over forward": lambda of: jax.grad(lambda *x: jax.jvp(of, x, x)[1], (0, 1)),
    "hessian": lambda of: lambda left, right: jax.hessian(lambda x: of(left[:2], x))(right[:, :2]),
    "vmap of gradients": lambda of: lambda left, right: jax.vmap(jax.grad(of, 1), (0, None))(left, right),
    "gradient of vmap": lambda of: jax.grad(lambda *x: jnp.sum(jax.vmap(of, (1, None))(x[0][:, None], x[1])), (0, 1)),
    "vmap of weights": lambda of: jax.grad(lambda left, right: jnp.sum(batched(of)(left, right)), (0, 1)),
    "jvp of vmap of weights": lambda of: lambda *x: jax.jvp(batched(of), x, x),
}


def batched(of):
    return lambda left, right: jax.vmap(of, (None, 2))(left, jnp.stack([right, jnp.cos(right)], -1))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_derivatives_in_any_mode_are_those_of_lax(name):
    ours, theirs = (differentiated(TRANSFORMS[name], product) for product in (products.multiply, jnp.matmul))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), ours, theirs)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Manual])
def test_where_types_carry_a_mesh_it_is_the_product_of_lax(kind):
    """A gradient by weights would need the type of the weights there: not varying, on the same axes of the mesh."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))

    def of(left, right):
        return jnp.sum(jnp.sin(products.multiply(left, right)), keepdims=True)

    if kind == AxisType.Manual:
        of = jax.shard_map(of, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
    left = jax.device_put(FLAT, NamedSharding(mesh, P("data")))
    found = jax.jit(jax.grad(lambda *x: jnp.sum(of(*x)), 1))(left, jax.device_put(KERNEL, NamedSharding(mesh, P())))
    np.testing.assert_allclose(found, FLAT.T @ jnp.cos(FLAT @ KERNEL), rtol=1e-4, atol=1e-4)


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
