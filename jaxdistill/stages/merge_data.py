"""Numbers that rules of merging need of the data: the accuracy on a split, and Fisher information."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxdistill.build.stage import Stage
from jaxdistill.core import Batch, Variables, split_params
from jaxdistill.data import loader
from jaxdistill.merging.fisher import diagonal_fisher
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
        batches = evaluator.stream(stage.data.batches(spec.split))
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
    for step in range(math.ceil(count / size)):
        positions = np.arange(step * size, (step + 1) * size)[stage.data.process.rows(size)]
        yield batches[step] | {"mask": (positions < count).astype(np.float32)}


def jit_replicated(stage: Stage, function: Callable[..., Any] = lambda tree: tree) -> Callable[..., Any]:
    """Compiles a function whose results every device of every process holds whole."""
    return jax.jit(mesh.traced_on(stage.mesh, function), out_shardings=mesh.replicated(stage.mesh))
