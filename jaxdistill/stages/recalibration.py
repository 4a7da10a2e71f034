"""Batch statistics computed anew from the training split, for merged networks.

Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018,
https://arxiv.org/abs/1803.05407, algorithm 1, as its authors' `bn_update`; without it the variances of a merged
network collapse: Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR 2023,
https://arxiv.org/abs/2211.08403.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import networks
from jaxdistill.build.stage import Stage
from jaxdistill.core import Batch, Variables
from jaxdistill.errors import UserError
from jaxdistill.stages.merge_data import jit_replicated, plain_batches
from jaxdistill.train import mesh


def find_momenta(stage: Stage) -> dict[str, float]:
    """Returns the fraction of its old statistics that each normalisation keeps, by its path in the collection.

    Raises:
        UserError: for statistics that do not move as those of a BatchNorm.
    """
    momenta: dict[str, float] = {}
    name = stage.settings.merge.networks[0]
    source, shapes = stage.networks[name], stage.shapes.variables[name]

    def record(call: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, nn.BatchNorm):
            momenta["/".join(context.module.path)] = context.module.momentum
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        images = jax.eval_shape(source.main_input, stage.data.batch)
        jax.eval_shape(lambda v, x: source.module.apply(v, x, train=False), shapes, images)
    leaves = jax.tree_util.tree_leaves_with_path(shapes.get("batch_stats", {}))
    moving = {path for path, momentum in momenta.items() if momentum < 1}
    unexplained = sorted({_module_path(path) for path, _ in leaves} - moving)
    if unexplained:
        raise UserError(
            f"stage {stage.name!r}: the statistics of {unexplained[:4]} are not those of a BatchNorm that moves, and"
            " cannot be computed anew; set merge.recalibrate=False"
        )
    return momenta


def _module_path(path: tuple[Any, ...]) -> str:
    return "/".join(part.key for part in path[:-1])


def make_recalibrate(stage: Stage) -> Callable[[Variables], Variables]:
    """Returns the function that replaces a network's batch statistics.

    They become the averages of those of the batches of one pass over the training split, shuffled and unaugmented, in
    whole batches (the last filled up from the next pass).
    """
    momenta = find_momenta(stage)
    source = stage.networks[stage.settings.merge.networks[0]]
    source = networks.Trained(source.module, source.input, source.preprocess)

    def add(total: Any, variables: Variables, batch: Batch, number: int) -> Any:
        key = jax.random.fold_in(jax.random.key(stage.settings.seed), number)
        zero = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
        _, changed = source(dict(variables) | {"batch_stats": zero}, stage.data.prepare(batch), {}, key)
        # Statistics that move from 0 by 1 - momentum towards the batch's, divided by that, are the batch's.
        statistics = jax.tree_util.tree_map_with_path(
            lambda path, x: x / (1 - momenta[_module_path(path)]), changed["batch_stats"]
        )
        return jax.tree.map(jnp.add, total, statistics)

    add = jit_replicated(stage, add)
    zeros = jit_replicated(stage, lambda tree: jax.tree.map(jnp.zeros_like, tree))

    def recalibrate(variables: Variables) -> Variables:
        total, number = zeros(variables["batch_stats"]), 0
        for number, batch in enumerate(plain_batches(stage, len(stage.data.train)), start=1):
            total = add(total, variables, mesh.put(stage.mesh, batch), number)
        return dict(variables) | {"batch_stats": jax.tree.map(lambda x: x / number, total)}

    return recalibrate
