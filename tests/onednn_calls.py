"""Convolutions by JAX in place of oneDNN's: the definition of a call, and programs that are compared with XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from jaxdistill.runtime.onednn import operation
from jaxdistill.runtime.onednn.operation import BIAS, BY_SOURCE, BY_WEIGHTS, RELU, RESIDUAL, Geometry

NUMBERS = ("NHWC", "HWIO", "NHWC")


class EveryGeometry:
    """A library that has every convolution."""

    target = f"{operation.TARGET}_test"

    def has(self, geometry):
        return True


def define_call(target, shape):
    """Returns what `jax.ffi.ffi_call` returns, computed by JAX from the numbers of the geometry alone."""

    def call(left, right, *others, geometry):
        g, others = Geometry.parse(geometry), list(others)
        y = jax.vmap(lambda a, b: _compute(g, a, b))(left, right)
        y = y + others.pop(0) if g.fused & BIAS else y
        y = y + others.pop(0) if g.fused & RESIDUAL else y
        y = jnp.maximum(y, 0) if g.fused & RELU else y
        assert (y.shape, y.dtype) == (shape.shape, shape.dtype)
        return y

    return call


def _compute(g, left, right):
    kernel = (g.kernel_height, g.kernel_width, g.inputs, g.groups * g.outputs)
    source = jnp.zeros((g.batch, g.height, g.width, g.groups * g.inputs), left.dtype)

    def forward(source, weights):
        return jax.lax.conv_general_dilated(
            source,
            weights,
            (g.stride_down, g.stride_across),
            ((g.top, g.bottom), (g.left, g.right)),
            rhs_dilation=(g.dilation_down, g.dilation_across),
            dimension_numbers=NUMBERS,
            feature_group_count=g.groups,
        )

    if g.kind == BY_WEIGHTS:
        return jax.vjp(forward, left, jnp.zeros(kernel, left.dtype))[1](right)[1]
    if g.kind == BY_SOURCE:  # stored with the groups beside the inputs
        right = right.reshape(*kernel[:2], g.groups, g.inputs, g.outputs)
        return jax.vjp(forward, source, jnp.moveaxis(right, 2, 3).reshape(kernel))[1](left)[0]
    return forward(left, right)


def gradients(stride, padding, dilation=1, groups=1):
    """Returns a convolution with its two gradients, `(x, w) -> (y, dx, dw)`."""

    def run(x, w):
        def convolve(x, w):
            options = {"rhs_dilation": (dilation,) * 2, "dimension_numbers": NUMBERS, "feature_group_count": groups}
            return jax.lax.conv_general_dilated(x, w, (stride,) * 2, padding, **options)

        y, pull_back = jax.vjp(convolve, x, w)
        dy = jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(y.dtype)
        return y, *pull_back(dy)

    return run


def draw(*shapes, dtype=np.float32):
    """Returns arrays of standard normal numbers."""
    random = np.random.default_rng(0)
    return tuple(jnp.asarray(random.normal(size=shape), dtype) for shape in shapes)


def count_calls(function, *arguments):
    """Counts the custom calls of a program."""
    return count_equations("ffi_call", function, *arguments)


def count_equations(name, function, *arguments):
    """Counts the equations of a program and those in it that have a primitive; what defines a call does not count."""
    traced = function if hasattr(function, "trace") else jax.jit(function)

    def count(jaxpr):
        outside = [
            x for x in jaxpr.eqns if x.params.get("name") != "onednn_convolution" or name in ("ffi_call", "shard_map")
        ]
        inner = sum(count(program) for equation in outside for program in jex.jaxprs_in_params(equation.params))
        return inner + sum(equation.primitive.name == name for equation in outside)

    return count(traced.trace(*arguments).jaxpr.jaxpr)


def largest_difference(left, right):
    """Returns the largest difference of arrays, relative to the largest number of each."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    as_floats = [[np.asarray(x, np.float64) for x in pair] for pair in pairs]
    return max(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-30) for a, b in as_floats if a.size)
