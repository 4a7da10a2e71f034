"""The runs of a training stage, behind one protocol, and the common case of a single run."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax
from jax.sharding import NamedSharding

from jaxdistill import networks
from jaxdistill.core import Schedule, State, Variables
from jaxdistill.train import units
from jaxdistill.train.evaluate import Measurement
from jaxdistill.train.step import Step, make_step

if TYPE_CHECKING:
    from jaxdistill.build.stage import Stage

Weights = Mapping[str, Variables]
"""Variables by network."""


class Runs(Protocol):
    """The runs of a stage, one or several.

    Attributes:
        stage: the stage; of lanes, with the settings of the first.
        batch_axes: the sizes of the axes before the rows of a batch.
        checkpoint_metadata: the number of lanes, for readers of a checkpoint.
        result_metadata: the same for readers of an evaluation, if there are lanes.
    """

    stage: "Stage"
    batch_axes: tuple[int, ...]
    checkpoint_metadata: Mapping[str, int]
    result_metadata: Mapping[str, int]

    def shapes(self) -> tuple[State, Weights]:
        """Returns the shapes of the first state, and of the frozen variables in the form that the step takes."""

    def shardings(self) -> tuple[Any, Any]:
        """Returns the shardings of `shapes`."""

    def init(self, weights: Weights) -> State:
        """Returns the first state; pure, for `jit`.

        Args:
            weights: of the networks that do not start at random, and of all frozen ones.
        """

    def step(self) -> Step:
        """Returns the step of training; its metrics are scalars."""

    def learning_rates(self) -> dict[str, Schedule]:
        """Returns the learning rates by step, by name in the log, the first of them as `rate`."""

    def loader(self) -> Any:
        """Returns the loader of the training split."""

    def numbers_of(self, name: str) -> Sequence[int | None]:
        """Returns the numbers of the runs that have weights of their own of a network; `[None]` if they share them."""

    def join(self, name: str, weights: Sequence[Variables]) -> Variables:
        """Returns a network's variables from those of `numbers_of`."""

    def first(self, weights: Weights) -> Weights:
        """Returns the weights of the first run."""

    def first_metadata(self, name: str) -> dict[str, int]:
        """Returns the lane that `first` takes a network from, if it is in lanes."""

    def for_inference(self, weights: Weights) -> Weights:
        """Returns weights in the form that frozen networks are called with (`Source.reduce`)."""

    def evaluate_step(self, step: Callable[..., Measurement]) -> Callable[..., Measurement]:
        """Makes `(params, variables, frozen, batch) -> Measurement` of one run that of all runs, on the same batch."""

    def split(self, total: Measurement) -> list[Measurement]:
        """Returns the measurement of each run."""

    def join_numbers(self, numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Returns the numbers of each run as one line of the log."""

    def ranked_by(self, metric: str) -> list[str]:
        """Returns the names in the log of the number that ranks the checkpoints of each run."""

    def selected(self, steps: Sequence[int]) -> dict[str, Any]:
        """Returns the checkpoint step that each run selects, for `done.json`."""

    def result_rows(self, costs: Mapping[str, Any], numbers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns the results of each lane as rows; none for a single run.

        Args:
            costs: `{network: {key: value}}`, the same in each run.
            numbers: `{network: {metric: value}}` of each run.
        """

    def describe(self) -> list[str]:
        """Returns lines for the plan; none for a single run."""


@dataclasses.dataclass(frozen=True)
class Single:
    """The only run of a stage."""

    stage: "Stage"
    batch_axes = ()
    checkpoint_metadata = {"lanes": 0}
    result_metadata = {}

    def shapes(self) -> tuple[State, Weights]:
        return self.stage.shapes.state, self.stage.shapes.frozen_in_step

    def shardings(self) -> tuple[Any, Any]:
        shapes = self.stage.shapes
        frozen = shapes.partitioner.partition({"frozen": shapes.frozen_in_step})
        return shapes.shardings[0], frozen.shardings["frozen"]

    def init(self, weights: Weights) -> State:
        return self.stage.init(weights)[0]

    def step(self) -> Step:
        stage = self.stage
        accumulate = stage.settings.accumulate
        freeze = units.freezing(stage.units)
        return make_step(
            stage.networks,
            stage.terms,
            stage.tx,
            stage.data.augment,
            accumulate=accumulate,
            freeze=freeze,
            write=stage.write,
        )

    def learning_rates(self) -> dict[str, Schedule]:
        return units.learning_rates(self.stage.units)

    def loader(self) -> Any:
        return self.stage.data.loader()

    def numbers_of(self, name: str) -> Sequence[int | None]:
        return [None]

    def join(self, name: str, weights: Sequence[Variables]) -> Variables:
        return weights[0]

    def first(self, weights: Weights) -> Weights:
        return weights

    def first_metadata(self, name: str) -> dict[str, int]:
        return {}

    def for_inference(self, weights: Weights) -> Weights:
        return for_inference(self, weights, functools.partial(reduce, self.stage))

    def evaluate_step(self, step: Callable[..., Measurement]) -> Callable[..., Measurement]:
        return step

    def split(self, total: Measurement) -> list[Measurement]:
        return [total]

    def join_numbers(self, numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return dict(numbers[0])

    def ranked_by(self, metric: str) -> list[str]:
        return [metric]

    def selected(self, steps: Sequence[int]) -> dict[str, Any]:
        return {"step": steps[0]}

    def result_rows(self, costs: Mapping[str, Any], numbers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return []

    def describe(self) -> list[str]:
        return []


def reduce(stage: "Stage", name: str, variables: Variables) -> Variables:
    """Returns the variables of one run that a frozen network is called with."""
    return networks.for_inference(stage.networks[name], variables, stage.data.batch)


def for_inference(runs: Runs, weights: Weights, reduce_one: Callable[[str, Variables], Variables]) -> Weights:
    """Returns weights in the form that frozen networks are called with, where they will live.

    Args:
        reduce_one: `(network, variables) -> variables`, of all runs.
    """
    stage, shardings = runs.stage, runs.shardings()[1]
    shapes = stage.shapes
    changed = {
        name: x
        for name, x in weights.items()
        if name in shardings and shapes.frozen_in_step[name] != shapes.frozen[name]
    }
    if not changed:
        return dict(weights)

    def reduce_all(weights: Weights) -> Weights:
        return {name: reduce_one(name, x) for name, x in weights.items()}

    targets = {name: shardings[name] for name in changed}
    on_device = jax.tree.map(lambda s: NamedSharding(s.mesh, s.spec), targets)
    reduced = jax.jit(reduce_all, out_shardings=on_device)(changed)
    offloaded = [name for name in reduced if getattr(stage.networks[name], "offload", False)]
    return {**weights, **reduced, **{name: jax.device_put(reduced[name], targets[name]) for name in offloaded}}
