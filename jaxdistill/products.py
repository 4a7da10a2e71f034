"""Products with weights, whose gradient by the weights is computed in an order that suits XLA's CPU kernels.

JAX computes that gradient as `(gradient^T inputs)^T`. XLA writes the left operand transposed, in whatever computes it,
which for the gradient of a vocabulary's logits takes far longer than the product. Here the narrower of the two is on
the left. On other devices, below float32, and inside `jax.shard_map` or on an explicit mesh the product is
`jax.lax.dot_general`.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType
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
    is_float32_on_cpu = platform() == "cpu" and dtypes == {jnp.dtype(jnp.float32)}
    if is_float32_on_cpu and is_ordered and not any(batches) and _is_placed_by_xla(left, right):
        return _multiply(tuple(of_left), precision, left, right)
    return jax.lax.dot_general(left, right, dimension_numbers, precision, preferred_element_type=preferred_element_type)


def _is_placed_by_xla(*operands: Array) -> bool:
    """Returns whether no axis of a mesh is part of types, as in `jax.shard_map`, where gradients have them too."""
    return all(kind == AxisType.Auto for x in operands for kind in jax.typeof(x).sharding.mesh.axis_types)


def _product(contracted: tuple[int, ...], precision: Any, left: Array, right: Array) -> Array:
    """Returns the sum over some axes of the left, and the first ones of the right."""
    return jax.lax.dot_general(left, right, ((contracted, tuple(range(len(contracted)))), ((), ())), precision)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _multiply(contracted: tuple[int, ...], precision: Any, left: Array, right: Array) -> Array:
    return _product(contracted, precision, left, right)


def _multiply_tangents(
    contracted: tuple[int, ...], precision: Any, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    (left, right), (of_left, of_right) = primals, tangents
    value = _multiply(contracted, precision, left, right)
    tangents_of_value = []
    if not isinstance(of_left, SymbolicZero):
        tangents_of_value.append(_multiply(contracted, precision, of_left, right))
    if not isinstance(of_right, SymbolicZero):
        tangents_of_value.append(weights_product_p.bind(left, of_right, contracted=contracted, precision=precision))
    return value, functools.reduce(jnp.add, tangents_of_value)


_multiply.defjvp(_multiply_tangents, symbolic_zeros=True)

weights_product_p = Primitive("weights_product")
"""The product as a linear function of the weights, whose transpose is the gradient by them."""


def _run(left: Array, right: Array, *, contracted: tuple[int, ...], precision: Any) -> Array:
    return _product(contracted, precision, left, right)


def _abstract(left: Any, right: Any, *, contracted: tuple[int, ...], precision: Any) -> Any:
    traced = jax.jit(functools.partial(_run, contracted=contracted, precision=precision)).trace(left, right)
    (output,) = traced.jaxpr.out_avals
    return output


def _batch(
    operands: tuple[Array, Array], axes: tuple[Any, Any], *, contracted: tuple[int, ...], precision: Any
) -> tuple[Array, int]:
    left, right = operands
    if axes[1] is None:
        shifted = tuple(axis + 1 for axis in contracted)
        left = jnp.moveaxis(left, axes[0], 0)
        return weights_product_p.bind(left, right, contracted=shifted, precision=precision), 0
    run = functools.partial(_run, contracted=contracted, precision=precision)
    return jax.vmap(run, in_axes=axes)(left, right), 0


def _gradient_by_left(
    gradient: Array, left: Any, right: Array, *, contracted: tuple[int, ...], precision: Any
) -> Array:
    (by_left,) = jax.linear_transpose(lambda x: _product(contracted, precision, x, right), left.aval)(gradient)
    return by_left


def _gradient_by_right(
    gradient: Array, left: Array, right: Any, *, contracted: tuple[int, ...], precision: Any
) -> Array:
    count, shape = len(contracted), right.aval.shape
    left_rows = tuple(axis for axis in range(left.ndim) if axis not in contracted)
    gradient_rows = tuple(range(len(left_rows)))
    if math.prod(shape[:count]) <= math.prod(shape[count:]):
        return jax.lax.dot_general(left, gradient, ((left_rows, gradient_rows), ((), ())), precision)
    swapped = jax.lax.dot_general(gradient, left, ((gradient_rows, left_rows), ((), ())), precision)
    return jnp.moveaxis(swapped, range(-count, 0), range(count))


weights_product_p.def_impl(_run)
weights_product_p.def_abstract_eval(_abstract)
ad.defbilinear(weights_product_p, _gradient_by_left, _gradient_by_right)
batching.primitive_batchers[weights_product_p] = _batch
mlir.register_lowering(weights_product_p, mlir.lower_fun(_run, multiple_results=False))
