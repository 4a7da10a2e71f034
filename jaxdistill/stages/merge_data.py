"""Numbers that merging needs of the data: the accuracy on a split, Fisher information, and batch statistics."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import networks
from jaxdistill.build.stage import Stage
from jaxdistill.core import Batch, Variables, split_params
from jaxdistill.data import loader
from jaxdistill.errors import UserError
from jaxdistill.merging.fisher import diagonal_fisher
from jaxdistill.runtime import preemption
from jaxdistill.train import mesh
from jaxdistill.train.evaluate import Evaluator, Plan

EXACT = 100
"""The number of classes up to which the Fisher information is the exact expectation over them; above, one draw."""

Params = Any
"""A tree of parameters."""


def accuracy_on_split(stage: Stage) -> Callable[[Variables], float]:
    """Returns `variables -> accuracy` of the stage's first network on `merge.split`."""
    spec = stage.settings.merge
    name = spec.networks[0]
    chosen = {"accuracy": stage.data.task.metric("accuracy")}
    plan = Plan(networks=stage.networks, names=[name], metrics=chosen, prepare=stage.data.prepare)
    evaluator = Evaluator(plan.step, stage.mesh)

    def accuracy(variables: Variables) -> float:
        batches = evaluator.stream(preemption.checked(stage.data.batches(spec.split)))
        total = evaluator.evaluate(({}, {}, {name: variables}), batches)
        return plan.finish(*total).values[name]["accuracy"]

    return accuracy


def fisher_of(stage: Stage, variables: Variables) -> Params:
    """Returns the diagonal Fisher information of a network on `merge.examples` of the training split."""
    source, size = stage.networks[stage.settings.merge.networks[0]], stage.settings.batch
    params, rest = split_params(variables)
    ways = mesh.num_blocks(stage.mesh)
    rows = ways * max(n for n in range(1, 9) if size // ways % n == 0)

    def apply(params: Params, batch: Batch) -> jax.Array:
        return source({"params": params} | dict(rest), batch, {}, None)[0].logits

    count = min(stage.settings.merge.examples or len(stage.data.train), len(stage.data.train))
    prepare = jax.jit(
        lambda batch: {n: x for n, x in stage.data.prepare(batch).items() if n in (source.input, "index", "mask")}
    )
    batches = (prepare(mesh.put(stage.mesh, batch)) for batch in plain_batches(stage, count))
    samples = 1 if stage.data.dataset.classes > EXACT else 0
    key = jax.random.key(stage.settings.seed)
    return diagonal_fisher(apply, params, batches, rows=rows, samples=samples, key=key)


def plain_batches(stage: Stage, count: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the first `count` examples in the order of training, unaugmented, in whole batches with a mask."""
    size = stage.settings.batch
    batches = loader.Streamed(
        stage.data.train, seed=stage.data.seed, batch=size, classes=stage.data.dataset.classes, shard=stage.data.process
    )
    for step in preemption.checked(range(math.ceil(count / size))):
        positions = np.arange(step * size, (step + 1) * size)[stage.data.process.rows(size)]
        yield batches[step] | {"mask": (positions < count).astype(np.float32)}


def jit_replicated(stage: Stage, function: Callable[..., Any] = lambda tree: tree) -> Callable[..., Any]:
    """Compiles a function whose results every device of every process holds whole."""
    return jax.jit(mesh.traced_on(stage.mesh, function), out_shardings=mesh.replicated(stage.mesh))


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

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018,
    https://arxiv.org/abs/1803.05407, algorithm 1, as its authors' `bn_update`; without it the variances of a merged
    network collapse: Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR 2023,
    https://arxiv.org/abs/2211.08403.
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
