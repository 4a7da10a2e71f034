"""Products with weights, whose gradient by the weights is computed in an order that suits XLA's CPU kernels.

JAX computes that gradient as `(gradient^T inputs)^T`. XLA writes the left operand transposed, in whatever computes it,
which for the gradient of a vocabulary's logits takes far longer than the product. Here the narrower of the two is on
the left. On other devices, and below float32, the product is `jax.lax.dot_general`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def platform() -> str:
    """Returns the platform of JAX's mesh (`jax.set_mesh`), or of its default backend without one."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def multiply(left: Float[Array, "*n k"], right: Float[Array, "k m"], dtype: Any = None) -> Float[Array, "*n m"]:
    """Returns `left @ right`, accumulated in `dtype` if it is given."""
    dimensions = (((left.ndim - 1,), (0,)), ((), ()))
    return dot_general(left, right, dimensions, preferred_element_type=dtype)


def dot_general(
    left: Array, right: Array, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
) -> Array:
    """Returns `jax.lax.dot_general`, for layers that take such a function; weights are on the right."""
    (of_left, of_right), batches = dimension_numbers
    dtypes = {jnp.dtype(x) for x in (left.dtype, right.dtype, preferred_element_type or left.dtype)}
    is_ordered = [*of_left] == sorted(of_left) and [*of_right] == [*range(len(of_right))]
    if platform() == "cpu" and dtypes == {jnp.dtype(jnp.float32)} and is_ordered and not any(batches):
        return _multiply(tuple(of_left), precision, left, right)
    return jax.lax.dot_general(left, right, dimension_numbers, precision, preferred_element_type=preferred_element_type)


def _product(contracted: tuple[int, ...], precision: Any, left: Array, right: Array) -> Array:
    """Returns the sum over some axes of the left, and the first ones of the right."""
    return jax.lax.dot_general(left, right, ((contracted, tuple(range(len(contracted)))), ((), ())), precision)


_multiply = jax.custom_vjp(_product, nondiff_argnums=(0, 1))


def _forward(
    contracted: tuple[int, ...], precision: Any, left: Array, right: Array
) -> tuple[Array, tuple[Array, Array]]:
    return _product(contracted, precision, left, right), (left, right)


def _backward(
    contracted: tuple[int, ...], precision: Any, operands: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    left, right = operands
    (by_left,) = jax.linear_transpose(lambda x: _product(contracted, precision, x, right), left)(gradient)
    count = len(contracted)
    left_rows = tuple(axis for axis in range(left.ndim) if axis not in contracted)
    gradient_rows = tuple(range(len(left_rows)))
    if math.prod(right.shape[:count]) <= math.prod(right.shape[count:]):
        return by_left, jax.lax.dot_general(left, gradient, ((left_rows, gradient_rows), ((), ())), precision)
    swapped = jax.lax.dot_general(gradient, left, ((gradient_rows, left_rows), ((), ())), precision)
    return by_left, jnp.moveaxis(swapped, range(-count, 0), range(count))


_multiply.defvjp(_forward, _backward)
