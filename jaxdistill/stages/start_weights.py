"""Variables that the networks of a stage start from: of checkpoints, or those that a source comes with."""

import pathlib
from collections.abc import Callable, Collection
from typing import Any

import jax

from jaxdistill import core, networks
from jaxdistill.build import weights
from jaxdistill.build.runs import Runs, Weights
from jaxdistill.core import Variables
from jaxdistill.stages import precision_report
from jaxdistill.train import mesh


def read(runs: Runs, workdir: pathlib.Path, names: Collection[str] | None = None) -> Weights:
    """Reads the variables of networks that do not start at random, each to its place on the devices.

    Args:
        runs: those of the stage.
        workdir: the folder of the run, for weights of its other stages.
        names: the networks to read; all of the stage if `None`.

    Returns:
        The variables by network, `[lanes, ...]` for networks with weights for each lane.
    """
    stage = runs.stage
    names = [*stage.networks] if names is None else names
    state, frozen = stage.shapes.shardings
    placed = core.merge_variables(state.params, state.variables, frozen)
    variables = {}
    for name, refs in stage.references.items():
        if name in names and "weights" in refs:
            numbers = runs.numbers_of(name)
            checkpoints = [weights.find(refs["weights"], name, workdir, lane) for lane in numbers]
            structs = mesh.structs(stage.shapes.variables[name], placed[name])
            trees = weights.read_all(checkpoints, structs)
            if stage.networks[name].frozen or not stage.kind.trains:
                trees = [_complete(stage.networks[name], tree, structs) for tree in trees]
            variables[name] = runs.join(name, trees)
    for name, cache in stage.data.caches.items():
        if cache.header.shared and name in names:
            variables[name] = mesh.spread({"unembedding": cache.read_shared()}, placed[name])
    for name, source in stage.networks.items():
        brought = networks.brought_variables(source)
        if brought and name in names:
            variables[name] = mesh.spread(dict(brought), placed[name])
    return variables


def _complete(source: networks.Source, variables: Variables, structs: Any) -> Variables:
    """Returns variables with the arrays that follow from the others, if they lack some."""
    if not isinstance(source, networks.Starts) or jax.tree.structure(variables) == jax.tree.structure(structs):
        return variables
    shardings = jax.tree.map(lambda struct: struct.sharding, structs)
    return jax.jit(lambda x: source.start(x, fresh=False), out_shardings=shardings)(variables)


def read_for_inference(runs: Runs, workdir: pathlib.Path, log: Callable[[str], None]) -> tuple[Weights, dict[str, Any]]:
    """Reads the variables that networks are called with if nothing learns, and reports what lower precision costs."""
    variables = read(runs, workdir)
    report = precision_report.report(runs, variables, log)
    return runs.for_inference(variables), report
