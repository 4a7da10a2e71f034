"""Which layers a network applies, and which convolutions speak to a BatchNorm and to nobody else.

Found from one trace of shapes, without models declaring it: every layer's call is marked, and the marks are followed
through the program.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Var

from jaxdistill.core import Variables

Path = tuple[str, ...]
LAYERS = (nn.Conv, nn.Dense, nn.DenseGeneral)


@dataclasses.dataclass(frozen=True)
class Wiring:
    """What a trace found.

    Attributes:
        layers: path -> a layer with a kernel, and how many dimensions its kernel has where it is applied: one that is
            scanned is stored with more.
        pairs: path of a layer -> path of the BatchNorm (and its epsilon) that alone reads it.
    """

    layers: dict[Path, tuple[nn.Module, int]]
    pairs: dict[Path, tuple[Path, float]]


def trace(say: Callable[[Variables], Any], variables: Variables) -> Wiring:
    """Traces `say(variables)`, which applies a Linen module; all that it returns counts as read."""
    layers: dict[Path, tuple[nn.Module, int]] = {}
    norms: dict[Path, float] = {}
    calls: list[Path] = []

    def mark(call, args, kwargs, context):
        layer = context.module
        if context.method_name != "__call__" or not isinstance(layer, (*LAYERS, nn.BatchNorm)):
            return call(*args, **kwargs)
        calls.append(layer.path)
        name = "/".join(layer.path)
        if isinstance(layer, nn.BatchNorm):
            norms[layer.path] = layer.epsilon
            return call(checkpoint_name(args[0], f"into {name}"), *args[1:], **kwargs)
        layers[layer.path] = (layer.clone(parent=None), layer.variables["params"]["kernel"].ndim if _has(layer) else 0)
        return checkpoint_name(call(*args, **kwargs), f"out of {name}")

    with nn.intercept_methods(mark):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
        program = jax.make_jaxpr(say)(shapes)
    once = {path for path in calls if calls.count(path) == 1}
    pairs = [(tuple(one.split("/")), tuple(other.split("/"))) for one, other in _direct(program.jaxpr)]
    return Wiring(layers, {one: (other, norms[other]) for one, other in pairs if {one, other} <= once})


def _has(layer: nn.Module) -> bool:
    return layer.has_variable("params", "kernel")


def _direct(program: Jaxpr) -> Iterator[tuple[str, str]]:
    """The (layer, norm) of which the norm reads all that the layer says, and nothing else reads any of it."""
    said = {eqn.outvars[0]: name.removeprefix("out of ") for eqn, name in _marks(program, "out of ")}
    readers: dict[Var, int] = {}
    for var in [*program.outvars, *(var for eqn in program.eqns for var in eqn.invars)]:
        if isinstance(var, Var):
            readers[var] = readers.get(var, 0) + 1
    for eqn, name in _marks(program, "into "):
        var = eqn.invars[0]
        if isinstance(var, Var) and var in said and readers[var] == 1:
            yield said[var], name.removeprefix("into ")
    for eqn in program.eqns:
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr))):
            if isinstance(value, (Jaxpr, ClosedJaxpr)):
                yield from _direct(getattr(value, "jaxpr", value))


def _marks(program: Jaxpr, start: str) -> Iterator[tuple[Any, str]]:
    for eqn in program.eqns:
        if eqn.primitive.name == "name" and eqn.params["name"].startswith(start):
            yield eqn, eqn.params["name"]
