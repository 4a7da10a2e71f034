"""Cost of the networks of a stage: parameters, bytes in a file, FLOPs, memory, latency and throughput."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill import core
from jaxdistill.build.runs import Runs, Weights
from jaxdistill.build.stage import Stage
from jaxdistill.compress.views import NO_VIEWS, Views, flatten, without_views
from jaxdistill.core import Variables
from jaxdistill.networks import Source, dependencies
from jaxdistill.stages.merge_data import jit_replicated
from jaxdistill.train import cost

Costs = dict[str, dict[str, Any]]
"""Costs by network: numbers by column of the final table."""


def count(stage: Stage, name: str) -> tuple[int, int]:
    """Counts a network's parameters, and the FLOPs of its inference on one example, with those of its dependencies.

    Views are finished: what they compute from params is no part of the inference. What they add to the params, such as
    scores and scales, are no parameters of the network.
    """
    variables = stage.shapes.variables
    needed = dependencies(stage.networks, [name])
    plain = [without_views(tree) for key, tree in variables.items() if key in needed]
    parameters = sum(core.count(tree.get("params", {})) for tree in plain)
    finished: dict[str, Source] = {}

    def finish(variables: Weights) -> Weights:
        sources, values = _finish(stage.networks, variables)
        finished.update(sources)
        return values

    shapes = jax.eval_shape(finish, {key: variables[key] for key in needed if key in variables})
    return parameters, cost.count_flops(finished, name, shapes, stage.data.batch)


def measure(runs: Runs, weights: Weights) -> Costs:
    """Measures the networks of an evaluation, each with its dependencies; of several runs the first.

    `nonzero` are the parameters that are not 0 as the network is called. `bytes` are those of all its arrays in a
    file, in the forms of its views or the types that it is called in, without a header. `memory`, `latency_ms` and
    `throughput` are measured if `evaluate.cost` is set, of networks whose views are finished. A network has none of
    these if its outputs, or those of a network that it needs, are read from a cache.

    Args:
        runs: those of the stage.
        weights: the variables of the networks, as they are called with.
    """
    stage, first = runs.stage, runs.first(weights)
    names = stage.evaluation.networks
    local = {name: _fetch(stage, variables) for name, variables in first.items()}
    sizes = {name: _measure_size(stage, name, variables) for name, variables in local.items()}
    costs: Costs = {}
    for name in names:
        parameters, flops = count(stage, name)
        needed = [sizes[key] for key in dependencies(stage.networks, [name]) if key in sizes]
        nonzero, stored = (sum(size[column] for size in needed) for column in (0, 1))
        is_computed = all(source.computed for source in dependencies(stage.networks, [name]).values())
        numbers = {"parameters": parameters, "nonzero": nonzero, "bytes": stored, "flops": flops}
        costs[name] = numbers if is_computed else {}
    if stage.settings.evaluate.cost and jax.process_index() == 0:
        present = [name for name in names if costs[name]]
        speeds = cost.measure_speed(*_finish(stage.networks, local), names=present, batch=stage.data.batch)
        costs |= {name: costs[name] | speeds[name] for name in present}
    return costs


def describe_conditions(stage: Stage) -> dict[str, Any]:
    """Returns the conditions of the measurement, for readers of an evaluation; none if nothing was timed."""
    return {"cost": cost.describe_conditions()} if stage.settings.evaluate.cost else {}


def _measure_size(stage: Stage, name: str, variables: Variables) -> tuple[int, int]:
    """Returns the number of parameters that are not 0, and the bytes of all arrays."""
    views = views_of(stage.networks[name])
    shapes = flatten(without_views(stage.shapes.variables[name])["params"])
    params = flatten(views.finish(variables)["params"])
    # Folding has merged the arrays of norms into kernels.
    counts = [np.count_nonzero(params[key]) if key in params else x.size for key, x in shapes.items()]
    return sum(map(int, counts)), views.stored_bytes(variables)


def _finish(networks: Mapping[str, Source], weights: Weights) -> tuple[dict[str, Source], dict[str, Variables]]:
    """Returns networks whose views are finished, and their variables."""
    sources, variables = dict(networks), dict(weights)
    for name in weights:
        views, variables[name] = views_of(networks[name]).finished(weights[name])
        if views_of(networks[name]):
            sources[name] = dataclasses.replace(networks[name], views=views)
    return sources, variables


def views_of(source: Source) -> Views:
    """Returns the views of a source's params; none for a source that has no module of its own."""
    return getattr(source, "views", NO_VIEWS)


def _fetch(stage: Stage, tree: Any) -> Any:
    """Returns the arrays on the host; all processes must call it."""
    if not all(x.is_fully_addressable for x in jax.tree.leaves(tree)):
        tree = jit_replicated(stage)(tree)
    return jax.device_get(tree)
