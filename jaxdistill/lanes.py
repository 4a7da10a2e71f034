"""Lanes: several runs of one stage as one program, each array of their states stacked.

A lane is the run that its own settings would be, but for the rounding of other matrix shapes. What all lanes share is
there once: the data on the device, the frozen networks, the program; and where they also share order and augmentation
(`data.seed`), the batch and what the frozen networks say of it. Functions here take a stage with lanes or without.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxdistill import sweep
from jaxdistill.core import Schedule, Term
from jaxdistill.data import loader
from jaxdistill.stage import Stage
from jaxdistill.train import optim
from jaxdistill.train.step import Step, make_step


def swept(stage: Stage) -> dict[str, Any]:
    """What the lanes differ in, by dotted name."""
    return {name: values for name, values in sweep.leaves(stage.settings["sweep"]) if name != "grid"}


def share_batches(stage: Stage) -> bool:
    """Whether all lanes see the same batches."""
    return len({lane.data_seed for lane in stage.lanes}) < 2 and "data.partition.part" not in swept(stage)


def _numbers(values: list[int]) -> jax.Array:
    return jnp.array(values, jnp.uint32)


def initial(stage: Stage, starts: Mapping[str, Any]) -> tuple[Any, Any]:
    """The first state, `[lanes, ...]` where there are lanes, and the frozen variables."""
    if not stage.lanes:
        return stage.initial(starts)
    seeds = _numbers([lane.settings["seed"] for lane in stage.lanes])
    return jax.vmap(lambda seed: stage.initial(starts, seed), out_axes=(0, None))(seeds)


def shapes(stage: Stage) -> tuple[Any, Any]:
    """The shapes of `initial`."""
    state, frozen = stage.shapes
    if not stage.lanes:
        return state, frozen
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(stage.lanes), *x.shape), x.dtype), state), frozen


def placed(stage: Stage) -> tuple[Any, Any]:
    """The shardings of `initial`: lanes are beside each other on every device that holds a part of one."""
    state, frozen = stage.placed
    if stage.lanes:
        state = jax.tree.map(lambda s: NamedSharding(s.mesh, PartitionSpec(None, *s.spec)), state)
    return state, frozen


def rate(stage: Stage) -> Schedule:
    """The learning rate by step, the mean of the lanes'."""
    if not stage.lanes:
        return stage.rate
    return lambda now: jnp.mean(jnp.stack([lane.rate(now) for lane in stage.lanes]))


def step(stage: Stage) -> Step:
    """The step of all lanes. Metrics are the lanes' means, and each lane's own as `LANE/NAME`."""
    accumulate = stage.settings["accumulate"]
    if not stage.lanes:
        return make_step(stage.networks, stage.terms, stage.tx, stage.augment, accumulate)
    shared = share_batches(stage)
    seeds = _numbers([lane.data_seed for lane in stage.lanes])

    def single(lane, state, frozen, batch):
        augment = stage.augment if shared else stage.augmented(seed=seeds[lane])
        made = make_step(stage.networks, _terms(stage, lane), _optimizer(stage, lane), augment, accumulate)
        return made(state, frozen, batch)

    every = jax.vmap(single, in_axes=(0, 0, None, None if shared else 0))

    def one(state, frozen, batch):
        state, metrics = every(jnp.arange(len(stage.lanes)), state, frozen, batch)
        means = {name: jnp.mean(values) for name, values in metrics.items()}
        own = {f"{k}/{n}": values[k] for n, values in metrics.items() for k in range(len(stage.lanes))}
        return state, means | own

    return one


def _picked(stage: Stage, lane: jax.Array, schedule: Callable[[Stage], Schedule]) -> Schedule:
    """The schedule of a lane whose number is traced."""
    return lambda now: jnp.stack([jnp.float32(schedule(one)(now)) for one in stage.lanes])[lane]


def _terms(stage: Stage, lane: jax.Array) -> dict[str, Term]:
    own = {}
    for name, term in stage.terms.items():
        fields = {key.split(".")[2] for key in swept(stage) if key.startswith(f"terms.{name}.")}
        weight, schedules = term.weight, dict(term.schedules)
        if "weight" in fields:
            weight = _picked(stage, lane, lambda one, name=name: one.terms[name].weight)
        for field in fields - {"weight"}:
            schedules[field] = _picked(stage, lane, lambda one, n=name, f=field: _field(one.terms[n], f))
        own[name] = dataclasses.replace(term, weight=weight, schedules=schedules)
    return own


def _field(term: Term, field: str) -> Schedule:
    return term.schedules.get(field, lambda now: getattr(term.method, field))


def _optimizer(stage: Stage, lane: jax.Array):
    names = [name for name in swept(stage) if name.split(".")[0] in ("rate", "optimizer")]
    if not names:
        return stage.tx
    keys = [name.split(".")[1] for name in names if name.startswith("optimizer.")]
    own = {key: jnp.array([float(one.settings["optimizer"][key]) for one in stage.lanes])[lane] for key in keys}
    return optim.optimizer(stage.settings["optimizer"], _picked(stage, lane, lambda one: one.rate), **own)


def feeder(stage: Stage) -> Any:
    """The loader of all lanes (`data.loader`)."""
    if not stage.lanes or share_batches(stage):
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
