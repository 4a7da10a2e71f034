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
REPARAMETRISED = (nn.WeightNorm, nn.SpectralNorm)
"""Modules that compute the kernel of the layer inside them: what is stored is not what it multiplies by."""


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
    unfoldable: set[Path] = set()
    wrapped = 0

    def mark(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal wrapped
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, REPARAMETRISED):
            wrapped += 1
            value = call(*args, **kwargs)
            wrapped -= 1
            return value
        if wrapped or context.method_name != "__call__" or not isinstance(layer, (*LAYERS, nn.BatchNorm)):
            return call(*args, **kwargs)
        calls.append(layer.path)
        name = "/".join(layer.path)
        if isinstance(layer, nn.BatchNorm):
            norms[layer.path] = layer.epsilon
            if layer.axis not in (-1, args[0].ndim - 1):
                unfoldable.add(layer.path)
            return call(checkpoint_name(args[0], f"into {name}"), *args[1:], **kwargs)
        ndim = layer.variables["params"]["kernel"].ndim if layer.has_variable("params", "kernel") else 0
        layers[layer.path] = (layer.clone(parent=None), ndim)
        return checkpoint_name(call(*args, **kwargs), f"out of {name}")

    with nn.intercept_methods(mark):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
        program = jax.make_jaxpr(apply)(shapes)
    single = {path for path in calls if calls.count(path) == 1} - unfoldable
    single -= _read_repeatedly(program.jaxpr, shapes)
    edges = [(tuple(layer.split("/")), tuple(norm.split("/"))) for layer, norm in _edges(program.jaxpr)]
    return LayerGraph(layers, {layer: (norm, norms[norm]) for layer, norm in edges if {layer, norm} <= single})


def _read_repeatedly(program: Jaxpr, variables: Variables) -> set[Path]:
    """Returns the paths of layers whose kernel the program reads more than once: another layer may use it too."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]]
    reads = [var for eqn in program.eqns for var in eqn.invars if isinstance(var, Var)]
    names = [tuple(str(getattr(part, "key", part)) for part in path) for path in paths]
    pairs = zip(names, program.invars, strict=True)
    return {name[1:-1] for name, var in pairs if name[-1] == "kernel" and reads.count(var) > 1}


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
