"""The layers that a network applies, and the convolutions whose output only a BatchNorm reads.

They are found from one trace of shapes, without declarations by models: every layer's call is marked, and the marks are
followed through the program.
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
class LayerGraph:
    """The result of a trace.

    Attributes:
        layers: path -> a layer with a kernel, and the number of dimensions of its kernel in the call: a layer that is
            scanned is stored with more.
        pairs: path of a layer -> path of the BatchNorm (and its epsilon) that alone reads its output.
    """

    layers: dict[Path, tuple[nn.Module, int]]
    pairs: dict[Path, tuple[Path, float]]


def trace(apply: Callable[[Variables], Any], variables: Variables) -> LayerGraph:
    """Traces a function that applies a Linen module; everything that it returns counts as read.

    Args:
        apply: the function of the variables.
        variables: arrays or shapes.
    """
    layers: dict[Path, tuple[nn.Module, int]] = {}
    norms: dict[Path, float] = {}
    calls: list[Path] = []

    def mark(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if context.method_name != "__call__" or not isinstance(layer, (*LAYERS, nn.BatchNorm)):
            return call(*args, **kwargs)
        calls.append(layer.path)
        name = "/".join(layer.path)
        if isinstance(layer, nn.BatchNorm):
            norms[layer.path] = layer.epsilon
            return call(checkpoint_name(args[0], f"into {name}"), *args[1:], **kwargs)
        ndim = layer.variables["params"]["kernel"].ndim if layer.has_variable("params", "kernel") else 0
        layers[layer.path] = (layer.clone(parent=None), ndim)
        return checkpoint_name(call(*args, **kwargs), f"out of {name}")

    with nn.intercept_methods(mark):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
        program = jax.make_jaxpr(apply)(shapes)
    single = {path for path in calls if calls.count(path) == 1}
    edges = [(tuple(layer.split("/")), tuple(norm.split("/"))) for layer, norm in _edges(program.jaxpr)]
    return LayerGraph(layers, {layer: (norm, norms[norm]) for layer, norm in edges if {layer, norm} <= single})


def _edges(program: Jaxpr) -> Iterator[tuple[str, str]]:
    """Yields `(layer, norm)` for each norm that reads the whole output of a layer, which nothing else reads."""
    producers = {eqn.outvars[0]: name.removeprefix("out of ") for eqn, name in _marks(program, "out of ")}
    readers: dict[Var, int] = {}
    for var in [*program.outvars, *(var for eqn in program.eqns for var in eqn.invars)]:
        if isinstance(var, Var):
            readers[var] = readers.get(var, 0) + 1
    for eqn, name in _marks(program, "into "):
        var = eqn.invars[0]
        if isinstance(var, Var) and var in producers and readers[var] == 1:
            yield producers[var], name.removeprefix("into ")
    for eqn in program.eqns:
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr))):
            if isinstance(value, (Jaxpr, ClosedJaxpr)):
                yield from _edges(getattr(value, "jaxpr", value))


def _marks(program: Jaxpr, start: str) -> Iterator[tuple[Any, str]]:
    for eqn in program.eqns:
        if eqn.primitive.name == "name" and eqn.params["name"].startswith(start):
            yield eqn, eqn.params["name"]
