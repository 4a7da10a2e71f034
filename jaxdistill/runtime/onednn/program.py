"""Programs whose convolutions are oneDNN's.

A program is rewritten as a whole, after it is differentiated and batched, so that modules, taps, exports and traces of
layers see ordinary convolutions, and every convolution is found, whoever wrote it.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend import core as jex

from jaxdistill.runtime.onednn import operation
from jaxdistill.runtime.onednn.library import Library

BATCH_AXES = ("data", "fsdp")
"""The axes of a mesh that split a batch (`networks.batch_sharding`)."""


def use_onednn(function: Callable[..., Any], library: Library) -> Callable[..., Any]:
    """Returns a function that computes the same, its convolutions by oneDNN.

    Args:
        function: of arrays in pytrees; it is traced in every call, so jit the result.
        library: the one to call.
    """

    @functools.wraps(function)
    def rewritten(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        program = rewrite(closed.jaxpr, library)
        outputs = jex.jaxpr_as_fun(jex.ClosedJaxpr(program, closed.consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return rewritten


def rewrite(program: Any, library: Library) -> Any:
    """Returns a jaxpr with its convolutions, and those of the jaxprs in it, replaced where oneDNN has them."""
    makers = {variable: equation for equation in program.eqns for variable in equation.outvars}
    equations = []
    for equation in program.eqns:
        if equation.primitive.name == "conv_general_dilated":
            equations += _replace(equation, makers, library)
        else:
            params = {key: _rewrite_param(value, library) for key, value in equation.params.items()}
            equations.append(equation.replace(params=params))
    return program.replace(eqns=equations)


def _rewrite_param(value: Any, library: Library) -> Any:
    if isinstance(value, jex.ClosedJaxpr):
        return value.replace(jaxpr=rewrite(value.jaxpr, library))
    if isinstance(value, jex.Jaxpr):
        return rewrite(value, library)
    if isinstance(value, tuple) and any(isinstance(x, jex.ClosedJaxpr | jex.Jaxpr) for x in value):
        return tuple(_rewrite_param(x, library) for x in value)
    return value


def _replace(equation: Any, makers: Mapping[Any, Any], library: Library) -> list[Any]:
    """Returns the equations in place of a convolution's: a call of oneDNN, or the equation as it is."""
    (left, right), (output,) = equation.invars, equation.outvars
    convolution = operation.read(equation.params, left.aval, right.aval, output.aval)
    if convolution is None:
        return [equation]
    mesh, axes = _find_axes(left.aval, convolution.geometry.batch)
    if axes is None or not library.has(convolution.geometry):
        return [equation]
    reverse = convolution.reverses
    if reverse and _is_reversed(makers.get(right)):
        right, reverse = makers[right].invars[0], False
    call = operation.make_call(convolution, library.target, mesh, axes)
    if reverse:
        call = _reverse_first(call)
    with equation.ctx.manager:
        traced = jax.make_jaxpr(jax.jit(call))(left.aval, right.aval)
    (one,) = traced.jaxpr.eqns
    return [one.replace(invars=[left, right], outvars=[output], source_info=equation.source_info)]


def _reverse_first(call: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda left, right: call(left, jax.lax.rev(right, (0, 1)))


def _is_reversed(maker: Any) -> bool:
    """Whether an equation reverses rows and columns of a kernel."""
    return maker is not None and maker.primitive.name == "rev" and tuple(maker.params["dimensions"]) == (0, 1)


def _find_axes(value: Any, rows: int) -> tuple[Any, tuple[str, ...] | None]:
    """Returns the mesh of a program and the axes that split its batches; None for axes that a call cannot be split by.

    Args:
        value: the shape of an operand.
        rows: of the batch.
    """
    mesh = value.sharding.mesh
    split = {axis: size for axis, size in mesh.shape.items() if size > 1 and axis not in mesh.manual_axes}
    devices = 1
    for size in split.values():
        devices *= size
    if split.keys() - {*BATCH_AXES} or rows % devices:
        return mesh, None
    return mesh, tuple(axis for axis in BATCH_AXES if axis in split)
