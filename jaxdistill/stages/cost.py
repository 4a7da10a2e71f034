"""Cost of the networks of a stage: parameters, bytes in a file, FLOPs, memory, latency and throughput."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill import core
from jaxdistill.build.runs import Runs, Weights
from jaxdistill.build.stage import Stage
from jaxdistill.networks import dependencies
from jaxdistill.stages.merge_data import jit_replicated
from jaxdistill.train import cost

Costs = dict[str, dict[str, Any]]
"""Costs by network: numbers by column of the final table."""


def count(stage: Stage, name: str) -> tuple[int, int]:
    """Counts a network's parameters, and the FLOPs of its inference on one example, with those of its dependencies."""
    variables = stage.shapes.variables
    needed = dependencies(stage.networks, [name])
    parameters = sum(core.count(shapes.get("params", {})) for key, shapes in variables.items() if key in needed)
    return parameters, cost.count_flops(stage.networks, name, variables, stage.data.batch)


def measure(runs: Runs, weights: Weights) -> Costs:
    """Measures the networks of an evaluation, each with its dependencies; of several runs the first.

    `nonzero` are the parameters that are not 0 as the network is called. `bytes` are those of all its arrays in a
    file: values in the type that they are called in, without a header. `memory`, `latency_ms` and `throughput` are
    measured if `evaluate.cost` is set.

    Args:
        runs: those of the stage.
        weights: the variables of the networks, as they are called with.
    """
    stage, first = runs.stage, runs.first(weights)
    names = stage.evaluation.networks
    sizes = {name: _measure_size(stage, name, variables) for name, variables in first.items()}
    costs: Costs = {}
    for name in names:
        parameters, flops = count(stage, name)
        needed = [sizes[key] for key in dependencies(stage.networks, [name]) if key in sizes]
        nonzero, stored = (sum(size[column] for size in needed) for column in (0, 1))
        costs[name] = {"parameters": parameters, "nonzero": nonzero, "bytes": stored, "flops": flops}
    if stage.settings.evaluate.cost:
        local = {name: _fetch(stage, variables) for name, variables in first.items()}
        if jax.process_index() == 0:
            speeds = cost.measure_speed(stage.networks, names, local, stage.data.batch)
            costs = {name: costs[name] | speeds[name] for name in names}
    return costs


def describe_conditions(stage: Stage) -> dict[str, Any]:
    """Returns the conditions of the measurement, for readers of an evaluation; none if nothing was timed."""
    return {"cost": cost.describe_conditions()} if stage.settings.evaluate.cost else {}


def _measure_size(stage: Stage, name: str, variables: core.Variables) -> tuple[int, int]:
    """Returns the number of parameters that are not 0, and the bytes of all arrays."""
    shapes = _flatten(stage.shapes.variables[name].get("params", {}))
    params = _flatten(_fetch(stage, variables.get("params", {})))
    nonzero = sum(int(np.count_nonzero(params[key])) for key in shapes)
    return nonzero, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(variables))


def _flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _fetch(stage: Stage, tree: Any) -> Any:
    """Returns the arrays on the host; all processes must call it."""
    if not all(x.is_fully_addressable for x in jax.tree.leaves(tree)):
        tree = jit_replicated(stage)(tree)
    return jax.device_get(tree)
