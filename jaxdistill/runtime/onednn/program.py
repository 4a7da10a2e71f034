"""Programs whose convolutions are oneDNN's.

A program is rewritten as a whole, after it is differentiated and batched, so that modules, taps, exports and traces of
layers see ordinary convolutions, and every convolution is found, whoever wrote it.
"""

import dataclasses
import functools
from collections.abc import Callable, Container, Mapping
from typing import Any

import jax
from jax.extend import core as jex
from jax.interpreters import partial_eval

from jaxdistill.runtime.onednn import operation
from jaxdistill.runtime.onednn.fusion import Chain, Uses, find_chain
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
        # Without what nothing reads: a tap that no method takes would keep a sum from its convolution.
        outputs = [True] * len(closed.jaxpr.outvars)
        needed, _ = partial_eval.dce_jaxpr(closed.jaxpr, outputs, instantiate=True)
        program = rewrite(needed, library)
        outputs = jex.jaxpr_as_fun(jex.ClosedJaxpr(program, closed.consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return rewritten


def rewrite(program: Any, library: Library) -> Any:
    """Returns a jaxpr with its convolutions, and those of the jaxprs in it, replaced where oneDNN has them."""
    makers = {variable: equation for equation in program.eqns for variable in equation.outvars}
    uses = Uses(program)
    replaced: dict[int, Any] = {}
    for place, equation in enumerate(program.eqns):
        if equation.primitive.name == "conv_general_dilated":
            replaced |= _replace(place, uses, makers, library=library, taken=replaced)
        elif place not in replaced:
            params = {key: _rewrite_param(value, library) for key, value in equation.params.items()}
            replaced[place] = equation.replace(params=params)
    return program.replace(eqns=[replaced[place] for place in sorted(replaced) if replaced[place] is not None])


def _rewrite_param(value: Any, library: Library) -> Any:
    if isinstance(value, jex.ClosedJaxpr):
        return value.replace(jaxpr=rewrite(value.jaxpr, library))
    if isinstance(value, jex.Jaxpr):
        return rewrite(value, library)
    if isinstance(value, tuple) and any(isinstance(x, jex.ClosedJaxpr | jex.Jaxpr) for x in value):
        return tuple(_rewrite_param(x, library) for x in value)
    return value


def _replace(
    place: int, uses: Uses, makers: Mapping[Any, Any], *, library: Library, taken: Container[int]
) -> dict[int, Any]:
    """Returns the equation in place of a convolution by the place it gets, and None for those that it comprises.

    Args:
        place: of the convolution's equation.
        uses: of the program's variables.
        makers: equations by the variables that they make.
        library: the one to call.
        taken: places of equations that have a successor.
    """
    equation = uses.equations[place]
    left, right = equation.invars
    convolution = operation.read(equation.params, left.aval, right.aval, equation.outvars[0].aval)
    if convolution is None:
        return {place: equation}
    mesh, axes = _find_axes(left.aval, convolution.geometry.batch)
    if axes is None or not library.has(convolution.geometry):
        return {place: equation}
    chain = find_chain(place, convolution, uses, taken)
    if chain.fused and library.has(dataclasses.replace(convolution.geometry, fused=chain.fused)):
        fused = dataclasses.replace(convolution.geometry, fused=chain.fused)
        convolution = dataclasses.replace(convolution, geometry=fused)
    else:
        chain = Chain((place,), (), 0, equation.outvars[0])
    if convolution.reverses and _is_reversed(makers.get(right)):
        right, convolution = makers[right].invars[0], dataclasses.replace(convolution, reverses=False)
    operands = [left, right, *chain.operands]
    with equation.ctx.manager:
        call = operation.make_call(convolution, library.target, mesh, axes)
        traced = jax.make_jaxpr(jax.jit(call))(*(operand.aval for operand in operands))
    (substitute,) = traced.jaxpr.eqns
    substitute = substitute.replace(invars=operands, outvars=[chain.output], source_info=equation.source_info)
    return dict.fromkeys(chain.equations) | {chain.equations[-1]: substitute}


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
