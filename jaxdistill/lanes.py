"""Lanes: several runs of one stage as one program, each array of their states stacked.

A lane is the run that its own settings would be, but for the rounding of other matrix shapes. What all lanes share is
there once: the frozen networks, the data on the device, the program. Functions here take a stage with lanes or without.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxdistill.data import loader
from jaxdistill.stage import Stage
from jaxdistill.train import sharding
from jaxdistill.train.step import Step, make_step


def _seeds(stage: Stage) -> jax.Array:
    return jnp.array([lane.settings["seed"] for lane in stage.lanes], jnp.uint32)


def initial(stage: Stage, starts: Mapping[str, Any]) -> tuple[Any, Any]:
    """The first state, `[lanes, ...]` where there are lanes, and the frozen variables."""
    if not stage.lanes:
        return stage.initial(starts)
    return jax.vmap(lambda seed: stage.initial(starts, seed), out_axes=(0, None))(_seeds(stage))


def shapes(stage: Stage) -> tuple[Any, Any]:
    """The shapes of `initial`."""
    state, frozen = stage.shapes
    if not stage.lanes:
        return state, frozen
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(stage.lanes), *x.shape), x.dtype), state), frozen


def placed(stage: Stage) -> tuple[Any, Any]:
    """The shardings of `initial`: lanes are beside each other on every device that holds a part of one."""
    rules = sharding.matching(stage.settings["sharding"], stage.shapes)
    state, frozen = sharding.shardings(stage.mesh, stage.shapes, rules)
    if stage.lanes:
        state = jax.tree.map(lambda s: NamedSharding(s.mesh, PartitionSpec(None, *s.spec)), state)
    return state, frozen


def step(stage: Stage) -> Step:
    """The step of all lanes. Metrics are the lanes' means, and each lane's own as `LANE/NAME`."""

    def make(seed):
        augment = stage.augmented(seed=seed)
        return make_step(stage.networks, stage.terms, stage.tx, augment, stage.settings["accumulate"])

    if not stage.lanes:
        return make(stage.settings["seed"])
    every = jax.vmap(lambda seed, state, frozen, batch: make(seed)(state, frozen, batch), in_axes=(0, 0, None, 0))

    def one(state, frozen, batch):
        state, metrics = every(_seeds(stage), state, frozen, batch)
        means = {name: jnp.mean(values) for name, values in metrics.items()}
        own = {f"{k}/{n}": values[k] for n, values in metrics.items() for k in range(len(stage.lanes))}
        return state, means | own

    return one


def feeder(stage: Stage) -> Any:
    """The loader of all lanes (`data.loader`)."""
    if not stage.lanes:
        return stage.loader()
    return loader.Lanes.of(lane.loader() for lane in stage.lanes)


def each(stage: Stage, measure: Callable[[Any, Any], Mapping[str, float]]) -> Callable[[Any], dict[str, float]]:
    """Wraps what measures `(params, variables)` of one run for a state of all lanes: means, and `LANE/NAME`."""
    if not stage.lanes:
        return lambda state: dict(measure(state.params, state.variables))
    pick = jax.jit(lambda tree, lane: jax.tree.map(lambda x: x[lane], tree), static_argnums=1)

    def of_all(state):
        found = [measure(*pick((state.params, state.variables), lane)) for lane in range(len(stage.lanes))]
        means = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        return means | {f"{lane}/{name}": value for lane, one in enumerate(found) for name, value in one.items()}

    return of_all
