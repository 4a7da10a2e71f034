"""Rules of merging by the names of a config, with what each takes, and the numbers that some need of the data."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxdistill.build.stage import Stage
from jaxdistill.config.schema import MergeConfig
from jaxdistill.core import Batch, Variables, split_params
from jaxdistill.data import loader
from jaxdistill.merging import rules
from jaxdistill.merging.fisher import diagonal_fisher
from jaxdistill.train import mesh
from jaxdistill.train.evaluate import Evaluator, Plan

EXACT = 100
"""The number of classes up to which the Fisher information is the exact expectation over them; above, one draw."""

Params = Any
"""A tree of parameters."""

MergeParams = Callable[[Sequence[Params]], Params]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What rules are made from.

    Attributes:
        spec: the settings of the stage.
        base: params of the network that task vectors start from; `None` for the mean of the networks.
        key: the key of random numbers.
        fishers: the diagonal Fisher information of each network, for the rule that takes it.
    """

    spec: MergeConfig
    base: Params | None
    key: jax.Array
    fishers: Sequence[Params] | None


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule of merging.

    Attributes:
        make: inputs -> the function of the networks' params; `None` for a rule that is scored on data.
        takes_weights: whether `merge.weights` applies.
        takes_base: whether `merge.base` applies.
        takes_fisher: whether it needs Fisher information.
    """

    make: Callable[[Inputs], MergeParams] | None
    takes_weights: bool = False
    takes_base: bool = False
    takes_fisher: bool = False

    @property
    def scored(self) -> bool:
        """Whether merged networks are scored by their accuracy on a split."""
        return self.make is None


def _average(inputs: Inputs) -> MergeParams:
    return functools.partial(rules.average, weights=inputs.spec.weights)


def _slerp(inputs: Inputs) -> MergeParams:
    return functools.partial(rules.slerp, weights=inputs.spec.weights)


def _fisher(inputs: Inputs) -> MergeParams:
    return lambda trees: rules.fisher_weighted(trees, inputs.fishers, inputs.spec.weights)


def _task_arithmetic(inputs: Inputs) -> MergeParams:
    return functools.partial(rules.task_arithmetic, base=inputs.base, scale=inputs.spec.scale)


def _ties(inputs: Inputs) -> MergeParams:
    return functools.partial(rules.ties, base=inputs.base, density=inputs.spec.density, scale=inputs.spec.scale)


def _dare(inputs: Inputs, make: Callable[[Inputs], MergeParams]) -> MergeParams:
    def merge(trees: Sequence[Params]) -> Params:
        base = rules.average(trees) if inputs.base is None else inputs.base
        merge_kept = make(dataclasses.replace(inputs, base=base))
        return merge_kept(rules.drop_and_rescale(trees, inputs.key, base, inputs.spec.drop))

    return merge


RULES = {
    "average": Rule(_average, takes_weights=True),
    "soup": Rule(None),
    "fisher": Rule(_fisher, takes_weights=True, takes_fisher=True),
    "slerp": Rule(_slerp, takes_weights=True),
    "task_arithmetic": Rule(_task_arithmetic, takes_base=True),
    "ties": Rule(_ties, takes_base=True),
    "dare": Rule(functools.partial(_dare, make=_task_arithmetic), takes_base=True),
    "dare_ties": Rule(functools.partial(_dare, make=_ties), takes_base=True),
}


def accuracy_on_split(stage: Stage) -> Callable[[Variables], float]:
    """Returns `variables -> accuracy` of the stage's first network on `merge.split`."""
    spec = stage.settings.merge
    name = spec.networks[0]
    chosen = {"accuracy": stage.task.metric("accuracy")}
    plan = Plan(networks=stage.networks, names=[name], metrics=chosen, prepare=stage.prepare)
    evaluator = Evaluator(plan.step, stage.mesh)

    def accuracy(variables: Variables) -> float:
        batches = evaluator.stream(stage.once(spec.split))
        total = evaluator.evaluate(({}, {}, {name: variables}), batches)
        return plan.finish(*total).values[name]["accuracy"]

    return accuracy


def fisher_of(stage: Stage, variables: Variables) -> Params:
    """Returns the diagonal Fisher information of a network on `merge.examples` of the training split."""
    source, size = stage.networks[stage.settings.merge.networks[0]], stage.settings.batch
    params, rest = split_params(variables)
    ways = stage.mesh.shape["data"] * stage.mesh.shape["fsdp"]
    rows = ways * max(n for n in range(1, 9) if size // ways % n == 0)

    def apply(params: Params, batch: Batch) -> jax.Array:
        return source({"params": params} | dict(rest), batch, {}, None)[0].logits

    count = min(stage.settings.merge.examples or len(stage.train), len(stage.train))
    prepare = jax.jit(
        lambda batch: {n: x for n, x in stage.prepare(batch).items() if n in (source.input, "index", "mask")}
    )
    batches = (prepare(mesh.put(stage.mesh, batch)) for batch in plain_batches(stage, count))
    samples = 1 if stage.dataset.classes > EXACT else 0
    return diagonal_fisher(apply, params, batches, rows, samples, jax.random.key(stage.settings.seed))


def plain_batches(stage: Stage, count: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the first `count` examples in the order of training, unaugmented, in whole batches with a mask."""
    size = stage.settings.batch
    batches = loader.Streamed(stage.train, stage.data_seed, size, stage.dataset.classes, stage.part)
    for step in range(math.ceil(count / size)):
        positions = np.arange(step * size, (step + 1) * size)[stage.part.rows(size)]
        yield batches[step] | {"mask": (positions < count).astype(np.float32)}


def jit_replicated(stage: Stage, function: Callable[..., Any] = lambda tree: tree) -> Callable[..., Any]:
    """Compiles a function whose results every device of every process holds whole."""
    return jax.jit(function, out_shardings=mesh.replicated(stage.mesh))
