"""Lanes: several runs of a stage side by side in one program.

A lane is the run that its own settings would be, up to the rounding of other matrix shapes; each array of the lanes'
states is stacked. Lanes share the data on the device, the frozen networks and the program; if they also share order
and augmentation (`data.seed`), they share the batch and the frozen networks' outputs for it.

`build` picks them or a single run; everything else calls the methods of `Stage.runs` (`build.runs.Runs`).
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxdistill.build import optimizers
from jaxdistill.build.runs import Single, Weights, for_inference, reduce
from jaxdistill.build.stage import Stage
from jaxdistill.config import registry
from jaxdistill.config.parse import plain
from jaxdistill.config.schema import StageSettings
from jaxdistill.config.sweep import count_lanes, lane_settings
from jaxdistill.core import Batch, Schedule, State, Term, Variables
from jaxdistill.data import loader
from jaxdistill.errors import UserError
from jaxdistill.networks import Precomputed, dependencies, run
from jaxdistill.runtime import topology
from jaxdistill.train import units
from jaxdistill.train.evaluate import Measurement
from jaxdistill.train.step import Step, make_step
from jaxdistill.train.units import Unit


def build(
    name: str,
    settings: StageSettings,
    trained_in: Mapping[str, Mapping[str, Any]],
    build_single: Callable[[StageSettings], Stage],
) -> Stage:
    """Builds a stage: a single run, or lanes if it sweeps settings or reads networks that were trained in lanes.

    Args:
        name: of the stage.
        settings: its own.
        trained_in: the metadata of the checkpoints of which the networks start that name no lane, by network.
        build_single: builds a stage of a single run.

    Raises:
        UserError: if lanes cannot run side by side.
    """
    swept = lane_settings(name, settings)
    counts = {network: lanes_in(metadata) for network, metadata in trained_in.items()}
    count, per_lane = count_lanes(name, settings, len(swept), counts)
    if not count:
        return build_single(settings)
    lanes = tuple(build_single(lane) for lane in swept) or (build_single(settings),) * count
    all_settings = dataclasses.replace(lanes[0].settings, sweep=settings.sweep)
    make_runs = functools.partial(Lanes, lanes=lanes, per_lane=tuple(per_lane))
    stage = dataclasses.replace(lanes[0], settings=all_settings, make_runs=make_runs)
    if swept:
        check_lanes(stage, lanes)
    return stage


def lanes_in(metadata: Mapping[str, Any]) -> int:
    """Returns the number of lanes of a checkpoint with these metadata; 0 for none."""
    return metadata.get("lanes", 0)


def choose_lane(path: str, metadata: Mapping[str, Any], named: int | None, default: int | None) -> int | None:
    """Returns the lane of a checkpoint from which weights are read; `None` if it has none.

    Args:
        path: of the reference, for messages.
        metadata: of the checkpoint.
        named: the lane that the reference names.
        default: the lane to take if it names none.

    Raises:
        UserError: if a lane is named and there are none, or the other way round.
    """
    count = lanes_in(metadata)
    if not count:
        if named is not None:
            raise UserError(f"{path} was not trained in lanes; leave out @{named}")
        return None
    lane = default if named is None else named
    if lane is None or lane >= count:
        raise UserError(
            f"{path} was trained in {count} lanes; name one, from ...@0 to ...@{count - 1}, or sweep as many"
        )
    return lane


def selected_step(metadata: Mapping[str, Any], network: str, lane: int | None) -> int | None:
    """Returns the step that a finished stage selected for a network (of a lane), from its `done.json`."""
    selected = metadata.get("selected", {}).get(network, metadata)
    by_lane = selected.get("steps", [])
    return by_lane[lane] if lane is not None and lane < len(by_lane) else selected.get("step")


def stack_struct(struct: jax.ShapeDtypeStruct, metadata: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
    """Returns the shape of an array of all lanes of a checkpoint from that of one."""
    sharding = struct.sharding and NamedSharding(struct.sharding.mesh, PartitionSpec(None, *struct.sharding.spec))
    return jax.ShapeDtypeStruct((lanes_in(metadata), *struct.shape), struct.dtype, sharding=sharding)


def check_lanes(stage: Stage, lanes: Sequence[Stage]) -> None:
    """Raises `UserError` if lanes cannot run side by side."""
    lengths = [lane.settings.steps for lane in lanes]
    if len(set(lengths)) > 1:
        raise UserError(
            f"the lanes of stage {stage.name!r} would have {lengths} steps, because their parts of the data differ in"
            " size; set steps instead of epochs"
        )
    optimizers.check_sweep(stage.name, stage.settings.sweep.values, stage.units)
    for name, values in stage.settings.sweep.values.items():
        section, _, key = name.rpartition(".")
        default = 0.0
        if section.startswith("terms.") and section.count(".") == 1 and key != "weight":
            default = registry.fields(type(stage.terms[section.split(".")[1]].method))[key]
        elif section == "optimizer":
            default = ({"clip": 0.0, "weight_decay": 0.0} | stage.settings.optimizer.arguments)[key]
        if not isinstance(default, float):
            raise UserError(
                f"stage {stage.name!r}: sweep.{name} must be a number with a fraction, its default is {default!r};"
                " lanes differ in such numbers"
            )
        zeros = sum(value == 0 for value in values)
        if key in ("weight_decay", "clip") and section.startswith("optimizer") and 0 < zeros < len(values):
            raise UserError(
                f"stage {stage.name!r}: sweep.{name}={values} mixes 0, which turns it off, with other values; give"
                " small numbers"
            )


class Lanes:
    """The lanes of a stage, stacked on a leading axis of the states and of the variables of networks per lane.

    Args:
        stage: the stage, with the settings of the first lane.
        lanes: the single runs.
        per_lane: the networks that start each lane from that lane of the stage that made them.
    """

    def __init__(self, stage: Stage, lanes: Sequence[Stage], per_lane: Sequence[str]):
        self.stage, self._one = stage, Single(stage)
        self.lanes, self.count, self.per_lane = lanes, len(lanes), per_lane
        self.swept = stage.settings.sweep.values
        """Values of the lanes by dotted name of the setting."""
        seeds = {lane.data.seed for lane in self.lanes}
        self.share_batches = len(seeds) < 2 and "data.partition.part" not in self.swept
        """Whether all lanes see the same batches."""
        self.batch_axes = () if self.share_batches else (self.count,)
        self.checkpoint_metadata = self.result_metadata = {"lanes": self.count}

    @property
    def form(self) -> str:
        """The form of the lanes' program, "vmap" or "unroll", by the sweep's `form`.

        "auto" unrolls on a CPU if lanes have convolution kernels of their own. Under `vmap` those become one grouped
        convolution, which XLA computes there much more slowly than one after the other (benchmarks/lanes.py).
        """
        form = self.stage.settings.sweep.form
        if form != "auto":
            return form
        state, frozen = self.stage.shapes.state, self.stage.shapes.frozen
        variables = (state.params, {name: frozen[name] for name in self.per_lane if name in frozen})
        convolves = any(x.ndim >= 4 for x in jax.tree.leaves(variables))
        return "unroll" if convolves and topology.backend() == "cpu" else "vmap"

    def shapes(self) -> tuple[State, Weights]:
        def stack(tree: Any) -> Any:
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct((self.count, *x.shape), x.dtype), tree)

        state, frozen = self._one.shapes()
        return stack(state), self._map_per_lane(stack, frozen)

    def shardings(self) -> tuple[Any, Any]:
        """Lanes are beside each other on every device that holds a part of one."""

        def stack_one(s: NamedSharding) -> NamedSharding:
            return NamedSharding(s.mesh, PartitionSpec(None, *s.spec), memory_kind=s.memory_kind)

        state, frozen = self._one.shardings()
        stack = functools.partial(jax.tree.map, stack_one)
        return stack(state), self._map_per_lane(stack, frozen)

    def _map_per_lane(self, function: Callable[[Any], Any], trees: Mapping[str, Any]) -> dict[str, Any]:
        return {name: function(tree) if name in self.per_lane else tree for name, tree in trees.items()}

    def _axes(self, names: Iterable[str]) -> dict[str, int | None]:
        """Returns the axis of the lanes in each network's variables; `None` if they share them."""
        return {name: 0 if name in self.per_lane else None for name in names}

    def init(self, weights: Weights) -> State:
        seeds = _seeds(lane.settings.seed for lane in self.lanes)
        stacked = {name: weights[name] for name in self.per_lane if name in weights}

        def init_lane(seed: jax.Array, lane_weights: Weights) -> State:
            return self.stage.init({**weights, **lane_weights}, seed)[0]

        return jax.vmap(init_lane)(seeds, stacked)

    def step(self) -> Step:
        """Returns the step of all lanes; its metrics are the lanes' means, and each lane's own as `LANE/NAME`."""
        stage, accumulate = self.stage, self.stage.settings.accumulate
        data_seeds = _seeds(lane.data.seed for lane in self.lanes)
        freeze = units.freezing(stage.units)

        def step(state: State, frozen: Weights, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
            networks = dict(stage.networks)
            if self.share_batches:
                batch = stage.data.augment(batch)
                networks |= self._precompute_shared(frozen, batch)

            def lane_step(lane: jax.Array, state: State, frozen: Weights, batch: Batch) -> Any:
                augment = dict if self.share_batches else stage.data.task.augment(seed=data_seeds[lane])
                terms, tx = self._terms(lane), self._optimizer(lane)
                run_step = make_step(
                    networks, terms, tx, augment, accumulate=accumulate, freeze=freeze, write=stage.write
                )
                return run_step(state, frozen, batch)

            all_lanes = self._over_lanes(lane_step, (0, 0, self._axes(frozen), None if self.share_batches else 0))
            state, metrics = all_lanes(jnp.arange(self.count), state, frozen, batch)
            means = {name: jnp.mean(values) for name, values in metrics.items()}
            return state, means | {_name(k, n): values[k] for n, values in metrics.items() for k in range(self.count)}

        return step

    def _precompute_shared(self, frozen: Weights, batch: Batch) -> dict[str, Precomputed]:
        """Returns the outputs of the frozen networks that all lanes share, computed once for the batch they share."""
        if self.stage.settings.accumulate > 1 or self.stage.settings.on_policy.share:
            # A step runs networks on micro-batches and on texts that a lane writes; these would be others' outputs.
            return {}
        shared = {
            name: source
            for name, source in self.stage.networks.items()
            if source.frozen and not source.needs and name in frozen and name not in self.per_lane
        }
        return {name: Precomputed(output) for name, output in run(shared, frozen, batch, None)[0].items()}

    def _terms(self, lane: jax.Array) -> dict[str, Term]:
        """Returns the terms of the lane of a traced number."""
        return {name: self._term(name, lane) for name in self.stage.terms}

    def _term(self, name: str, lane: jax.Array) -> Term:
        of_lanes = [stage.terms[name] for stage in self.lanes]
        fields = {key.split(".")[2] for key in self.swept if key.startswith(f"terms.{name}.")}
        term = self.stage.terms[name]
        swept = {field: _select([_field(term, field) for term in of_lanes], lane) for field in fields - {"weight"}}
        weight = _select([term.weight for term in of_lanes], lane) if "weight" in fields else term.weight
        return dataclasses.replace(term, weight=weight, schedules=dict(term.schedules) | swept)

    def _optimizer(self, lane: jax.Array) -> optax.GradientTransformation:
        """Returns the optimizer of the lane of a traced number."""
        names = [name for name in self.swept if name.split(".")[0] in ("learning_rate", "optimizer")]
        if not names:
            return self.stage.tx
        keys = [name.removeprefix("optimizer.") for name in names if name.startswith("optimizer.")]
        keys = [key for key in keys if ".learning_rate" not in key]
        sections = [plain(stage.settings.optimizer) for stage in self.lanes]
        traced = {key: jnp.array([float(_at(section, key)) for section in sections])[lane] for key in keys}

        def make(unit: Unit) -> optax.GradientTransformation:
            of_lanes = [u for stage in self.lanes for u in stage.units if u.name == unit.name]
            rate = _select([of_lane.rate for of_lane in of_lanes], lane)
            group_rates = {
                name: _select([of_lane.group_rates[name] for of_lane in of_lanes], lane) for name in unit.group_rates
            }
            values = {} if unit.has_own_optimizer else traced
            return dataclasses.replace(unit, rate=rate, group_rates=group_rates).make(values)

        return units.combine(self.stage.units, make)

    def learning_rates(self) -> dict[str, Schedule]:
        """Returns the means of the lanes' learning rates."""

        def mean(rates: Sequence[Schedule]) -> Schedule:
            return lambda step: jnp.mean(jnp.stack([rate(step) for rate in rates]))

        of_lanes = [units.learning_rates(lane.units) for lane in self.lanes]
        return {name: mean([rates[name] for rates in of_lanes]) for name in of_lanes[0]}

    def loader(self) -> Any:
        if self.share_batches:
            return self.stage.data.loader()
        return loader.Stacked.of(lane.data.loader() for lane in self.lanes)

    def numbers_of(self, name: str) -> Sequence[int | None]:
        return range(self.count) if name in self.per_lane else [None]

    def join(self, name: str, weights: Sequence[Variables]) -> Variables:
        if name not in self.per_lane:
            return weights[0]
        return jax.jit(lambda *trees: jax.tree.map(lambda *x: jnp.stack(x), *trees))(*weights)

    def first(self, weights: Weights) -> Weights:
        return self._map_per_lane(jax.jit(functools.partial(_take_lane, lane=0)), weights)

    def first_metadata(self, name: str) -> dict[str, int]:
        return {"lane": 0} if name in self.per_lane else {}

    def for_inference(self, weights: Weights) -> Weights:
        def reduce_one(name: str, variables: Variables) -> Variables:
            reduce_lane = functools.partial(reduce, self.stage, name)
            return jax.vmap(reduce_lane)(variables) if name in self.per_lane else reduce_lane(variables)

        return for_inference(self, weights, reduce_one)

    def evaluate_step(self, step: Callable[..., Measurement]) -> Callable[..., Measurement]:
        def measure(params: Any, variables: Any, frozen: Weights, batch: Batch) -> Measurement:
            axes = (0, 0, self._axes(frozen), None)
            return self._over_lanes(step, axes)(params, variables, frozen, batch)

        return measure

    def split(self, total: Measurement) -> list[Measurement]:
        return [_take_lane(total, lane) for lane in range(self.count)]

    def join_numbers(self, numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Returns the lanes' means, and each lane's own as `LANE/NAME`."""
        means = {name: sum(row[name] for row in numbers) / len(numbers) for name in numbers[0]}
        return means | {_name(lane, name): value for lane, row in enumerate(numbers) for name, value in row.items()}

    def ranked_by(self, metric: str) -> list[str]:
        return [_name(lane, metric) for lane in range(self.count)]

    def selected(self, steps: Sequence[int]) -> dict[str, Any]:
        return {"steps": [*steps]}

    def result_rows(self, costs: Mapping[str, Any], numbers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns a row for each network and lane; one whose lane is null for a network that all lanes share."""
        rows = []
        for name in costs:
            differs = any(need in self.per_lane for need in dependencies(self.stage.networks, [name]))
            for lane in range(self.count) if differs else [None]:
                rows.append({"network": name, "lane": lane} | costs[name] | numbers[lane or 0][name])
        return rows

    def describe(self) -> list[str]:
        values = ", ".join(f"{name} {tuple(values)}" for name, values in self.swept.items())
        lines = [f"  {self.count} lanes side by side ({self.form}): {values}"] if self.swept else []
        return lines + ([f"  each lane has its own: {', '.join(self.per_lane)}"] if self.per_lane else [])

    def _over_lanes(self, function: Callable[..., Any], axes: Sequence[Any]) -> Callable[..., Any]:
        """Makes a function of one lane one of all lanes, as `jax.vmap(function, in_axes=axes)`, in the lanes' form."""
        if self.form == "vmap":
            return jax.vmap(function, in_axes=tuple(axes))

        def unrolled(*arguments: Any) -> Any:
            results = []
            for lane in range(self.count):
                pairs = zip(axes, arguments, strict=True)
                results.append(function(*(_take_axes(axis, argument, lane) for axis, argument in pairs)))
            return jax.tree.map(lambda *x: jnp.stack(x), *results)

        return unrolled


def _name(lane: int, name: str) -> str:
    """Returns the name of a lane's number in the log."""
    return f"{lane}/{name}"


def _seeds(values: Iterable[int]) -> jax.Array:
    return jnp.array([*values], jnp.uint32)


def _take_lane(tree: Any, lane: int) -> Any:
    return jax.tree.map(lambda x: x[lane], tree)


def _take_axes(axes: Any, tree: Any, lane: int) -> Any:
    """Returns a lane's part of an argument, by axes as those of `jax.vmap`; `None` for what the lanes share."""
    if isinstance(axes, Mapping):
        return {name: _take_axes(axes[name], part, lane) for name, part in tree.items()}
    return tree if axes is None else _take_lane(tree, lane)


def _select(schedules: Sequence[Schedule], lane: jax.Array) -> Schedule:
    """Returns the schedule of the lane of a traced number."""
    return lambda step: jnp.stack([jnp.float32(schedule(step)) for schedule in schedules])[lane]


def _at(section: Mapping[str, Any], key: str) -> Any:
    """Returns the value at a dotted key."""
    return functools.reduce(operator.getitem, key.split("."), section)


def _field(term: Term, field: str) -> Schedule:
    value = getattr(term.method, field)
    return term.schedules.get(field, lambda step: value)
