"""Lanes: several runs of one stage as one program, each array of their states stacked.

A lane is the run that its own settings would be, but for the rounding of other matrix shapes. What all lanes share is
there once: the data on the device, the frozen networks, the program; and where they also share order and augmentation
(`data.seed`), the batch and what the frozen networks say of it. Functions here take a stage with lanes or without.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxdistill.build.stage import Stage
from jaxdistill.config import sweep
from jaxdistill.core import Schedule, Term
from jaxdistill.data import loader
from jaxdistill.networks import Said, run
from jaxdistill.train import optim
from jaxdistill.train.step import Step, make_step


def swept(stage: Stage) -> dict[str, Any]:
    """What the lanes differ in, by dotted name."""
    return dict(sweep.listed(stage.settings["sweep"]))


def share_batches(stage: Stage) -> bool:
    """Whether all lanes see the same batches."""
    return len({lane.data_seed for lane in stage.lanes}) < 2 and "data.partition.part" not in swept(stage)


def _numbers(values: list[int]) -> jax.Array:
    return jnp.array(values, jnp.uint32)


def initial(stage: Stage, starts: Mapping[str, Any]) -> tuple[Any, Any]:
    """The first state and the frozen variables, `[lanes, ...]` where they are the lanes' own."""
    if not stage.lanes:
        return stage.initial(starts)
    seeds = _numbers([lane.settings["seed"] for lane in stage.lanes])
    own = {name: starts[name] for name in stage.paired if name in starts}
    axes = 0, _axes(stage, stage.shapes[1])
    return jax.vmap(lambda seed, own: stage.initial({**starts, **own}, seed), out_axes=axes)(seeds, own)


def _axes(stage: Stage, names: Iterable[str]) -> dict[str, int | None]:
    """Which axis of the variables of each network is the lanes'; `None` where they share them."""
    return {name: 0 if name in stage.paired else None for name in names}


def together(each: Sequence[Any]) -> Any:
    """Stacks what each lane starts from."""
    return jax.jit(lambda *trees: jax.tree.map(lambda *x: jnp.stack(x), *trees))(*each)


def first(stage: Stage, starts: Mapping[str, Any]) -> dict[str, Any]:
    """What lane 0 starts from."""
    pick = jax.jit(lambda tree: jax.tree.map(lambda x: x[0], tree))
    return {name: pick(tree) if name in stage.paired else tree for name, tree in starts.items()}


def shapes(stage: Stage) -> tuple[Any, Any]:
    """The shapes of the first state, and of the frozen variables as they are called with."""
    state, frozen = stage.shapes[0], stage.called
    if not stage.lanes:
        return state, frozen

    def several(tree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(stage.lanes), *x.shape), x.dtype), tree)

    return several(state), {name: several(x) if name in stage.paired else x for name, x in frozen.items()}


def placed(stage: Stage) -> tuple[Any, Any]:
    """The shardings of `shapes`: lanes are beside each other on every device that holds a part of one."""
    state, frozen = stage.placed[0], stage.placement({"frozen": stage.called})["frozen"]
    if not stage.lanes:
        return state, frozen

    def one(s):
        return NamedSharding(s.mesh, PartitionSpec(None, *s.spec), memory_kind=s.memory_kind)

    def several(tree):
        return jax.tree.map(one, tree)

    return several(state), {name: several(x) if name in stage.paired else x for name, x in frozen.items()}


def reduced(stage: Stage, known: Mapping[str, Any]) -> dict[str, Any]:
    """What networks with these variables are called with (`Source.reduce`); those that stay as they are, themselves."""
    where = placed(stage)[1]
    own = {name: x for name, x in known.items() if name in where and stage.called[name] != stage.shapes[1][name]}

    def make(own):
        made = {}
        for name, x in own.items():
            source = stage.networks[name]
            reduce = functools.partial(lambda x, source: source.reduce(x, stage.batch), source=source)
            made[name] = jax.vmap(reduce)(x) if name in stage.paired else reduce(x)
        return made

    if not own:
        return dict(known)
    on_device = jax.tree.map(lambda s: NamedSharding(s.mesh, s.spec), {name: where[name] for name in own})
    made = jax.jit(make, out_shardings=on_device)(own)
    offloaded = [name for name in made if getattr(stage.networks[name], "offload", False)]
    return {**known, **made, **{name: jax.device_put(made[name], where[name]) for name in offloaded}}


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

    def one(state, frozen, batch):
        cast = dict(stage.networks)
        if shared:
            batch = stage.augment(batch)
            cast |= _said_to_all(stage, frozen, batch)

        def single(lane, state, frozen, batch):
            augment = dict if shared else stage.augmented(seed=seeds[lane])
            made = make_step(cast, _terms(stage, lane), _optimizer(stage, lane), augment, accumulate)
            return made(state, frozen, batch)

        every = over(stage, single, (0, 0, _axes(stage, frozen), None if shared else 0))
        state, metrics = every(jnp.arange(len(stage.lanes)), state, frozen, batch)
        means = {name: jnp.mean(values) for name, values in metrics.items()}
        own = {f"{k}/{n}": values[k] for n, values in metrics.items() for k in range(len(stage.lanes))}
        return state, means | own

    return one


def _said_to_all(stage: Stage, frozen: Mapping[str, Any], batch: Any) -> dict[str, Said]:
    """What the frozen networks that all lanes share say of the batch that they share, asked once, in any form."""
    if stage.settings["accumulate"] > 1:
        return {}  # a lane cuts its batch, and what was said of the whole of it would not be of its parts
    common = {
        name: source
        for name, source in stage.networks.items()
        if source.frozen and not source.needs and name in frozen and name not in stage.paired
    }
    return {name: Said(said) for name, said in run(common, frozen, batch, None)[0].items()}


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


def told(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Joins the lanes' numbers: their means, and each lane's own as `LANE/NAME`."""
    means = {name: sum(one[name] for one in each) / len(each) for name in each[0]}
    return means | {f"{lane}/{name}": value for lane, one in enumerate(each) for name, value in one.items()}


def abreast(stage: Stage, function: Callable) -> Callable:
    """Makes a function of a run's `(params, variables, frozen, batch)` one of all lanes' and the same batch."""
    if not stage.lanes:
        return function

    def every(params, variables, known, batch):
        return over(stage, function, (0, 0, _axes(stage, known), None))(params, variables, known, batch)

    return every


def form(stage: Stage) -> str:
    """How the lanes of a stage are computed: "vmap", "unroll" or "map".

    By the sweep's `form`; "auto" unrolls on a CPU where lanes have convolution kernels of their own. Under `vmap` those
    become one grouped convolution, which XLA computes there much more slowly than one after the other
    (benchmarks/lanes.py measures all forms).
    """
    named = stage.settings["sweep"].get("form", "auto")
    if named != "auto":
        return named
    state, frozen = stage.shapes
    own = (state.params, {name: frozen[name] for name in stage.paired if name in frozen})
    convolves = any(x.ndim >= 4 for x in jax.tree.leaves(own))
    return "unroll" if convolves and jax.default_backend() == "cpu" else "vmap"


def over(stage: Stage, function: Callable, axes: Sequence[Any]) -> Callable:
    """Makes a function of one lane one of all of them, as `jax.vmap(function, in_axes=axes)`, in the stage's form."""
    kind = form(stage)
    if kind == "vmap":
        return jax.vmap(function, in_axes=tuple(axes))

    def split(arguments, pick):
        """The lane's own of each argument; `None` stands for what they share."""
        return [_picked_by(axis, argument, pick) for axis, argument in zip(axes, arguments, strict=True)]

    def unrolled(*arguments):
        lanes = range(len(stage.lanes))
        each = [function(*split(arguments, lambda x, lane=lane: x[lane])) for lane in lanes]
        return jax.tree.map(lambda *x: jnp.stack(x), *each)

    def mapped(*arguments):
        lanes = jnp.arange(len(stage.lanes))
        return jax.lax.map(lambda lane: function(*split(arguments, lambda x: x[lane])), lanes)

    return unrolled if kind == "unroll" else mapped


def _picked_by(axes: Any, tree: Any, pick: Callable) -> Any:
    if isinstance(axes, Mapping):
        return {name: _picked_by(axes[name], part, pick) for name, part in tree.items()}
    return tree if axes is None else jax.tree.map(pick, tree)
