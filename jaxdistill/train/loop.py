"""The training loop: dispatch a step, read the metrics of the one before, evaluate and save at intervals."""

import contextlib
import dataclasses
import functools
import itertools
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdistill.core import Batch, Schedule, State, Variables
from jaxdistill.runtime import preemption, xla_options
from jaxdistill.train import flops, time_split
from jaxdistill.train import mesh as sharding
from jaxdistill.train.alarm import Alarm
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.metrics_log import TRACKERS
from jaxdistill.train.monitor import Monitor, is_due
from jaxdistill.train.prefetch import Prefetcher
from jaxdistill.train.profile import FOLDER, Profile
from jaxdistill.train.step import INPUT, Step
from jaxdistill.train.throughput import Throughput

RESIDENT_ADVICE = "sending the indices of examples; make several steps in a dispatch, steps_per_call=16"
STREAMED_ADVICE = (
    "waiting for data; hold it on the device (data.resident=yes), read with more threads (data.num_threads), or prepare"
    " images that are smaller or not compressed"
)
"""Continuations of a warning that a fraction of the time is spent ..."""

Frozen = Mapping[str, Variables]
Metrics = Mapping[str, jax.Array]


class Loader(Protocol):
    """The source of batches (`data.loader`).

    Attributes:
        resident: the arrays of the split that the device holds; empty if batches are streamed.
        leading: the number of axes before the rows of a batch.
    """

    resident: Mapping[str, np.ndarray]
    leading: int

    def step_inputs(self, start: int, stop: int) -> Iterator[Mapping[str, np.ndarray]]:
        """Yields the inputs of steps `start` to `stop`."""
        ...

    def crop(self, parts: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """Returns the inputs of the steps of one call in shapes that they share."""
        ...

    def make_batch(self, resident: Mapping[str, Any], inputs: Mapping[str, Any]) -> Batch:
        """Makes the raw batch of a step on the device."""
        ...


@dataclasses.dataclass(frozen=True)
class Intervals:
    """The length of a stage, and the times at which it evaluates, saves and logs, in optimizer steps.

    Attributes:
        steps: optimizer steps of the whole stage.
        evaluate_every, save_every, log_every: steps between two of them; 0 for the end alone.
        steps_per_call: the largest number of steps in a dispatch.
    """

    steps: int
    evaluate_every: int = 0
    save_every: int = 0
    log_every: int = 0
    steps_per_call: int = 1

    def next_boundary(self, step: int) -> int:
        """Returns the first step after `step` at which an evaluation or a checkpoint is due."""
        boundaries = [step + every - step % every for every in (self.evaluate_every, self.save_every) if every > 0]
        return min([self.steps, *boundaries])

    def evaluates(self, step: int) -> bool:
        """Whether an evaluation is due after `step`."""
        return step == self.steps or is_due(step, self.evaluate_every)

    def with_fewest_calls(self) -> "Intervals":
        """Returns the intervals with the `steps_per_call`, of those up to its own, that needs the fewest dispatches."""
        lengths: Counter[int] = Counter()
        step = 0
        while step < self.steps:
            lengths[self.next_boundary(step) - step] += 1
            step = self.next_boundary(step)

        def calls(count: int) -> int:
            return sum(n * (length // count + length % count) for length, n in lengths.items())

        return dataclasses.replace(self, steps_per_call=min(range(1, self.steps_per_call + 1), key=calls))

    def calls(self, start: int) -> Iterator[int]:
        """Yields the number of steps of each dispatch after step `start`."""
        step = start
        while step < self.steps:
            full = self.next_boundary(step) - step >= self.steps_per_call
            count = self.steps_per_call if full else 1
            yield count
            step += count


@dataclasses.dataclass(frozen=True)
class Training:
    """A stage that `fit` trains.

    Attributes:
        stage: its name, for messages and lines of the log.
        step: the pure step.
        loader: the source of batches.
        mesh: the devices.
        shardings: of the state.
        batch, examples: sizes of a batch and of the training split.
        learning_rates: by step, by name in the log, the first of them as `rate`.
        intervals: its length, and when it evaluates, saves and logs.
        evaluate: state -> `{name: number}`, or `None`.
        prefetch: the number of dispatches whose inputs are put on the device in advance.
        peak_flops: the FLOP/s of a device; 0 for the data sheet of its kind.
        profile_steps: the number of early steps to record; 0 for none.
        alarm: bounds of numbers of the log.
        trackers: names of the programs that get the metrics.
        log: prints a line.
    """

    stage: str
    step: Step
    loader: Loader
    mesh: Mesh
    shardings: Any
    batch: int
    examples: int
    learning_rates: Mapping[str, Schedule]
    intervals: Intervals
    evaluate: Callable[[State], Mapping[str, Any]] | None = None
    prefetch: int = 0
    peak_flops: float = 0.0
    profile_steps: int = 0
    alarm: Alarm | None = None
    trackers: tuple[str, ...] = TRACKERS
    log: Callable[[str], None] = print

    def compile(self, count: int) -> Callable[..., tuple[State, Metrics]]:
        """Compiles `count` steps as one (`compile_steps`)."""
        return compile_steps(self.step, self.loader.make_batch, self.mesh, self.shardings, count=count)


def compile_steps(
    step: Step, make_batch: Callable[..., Batch], mesh: Mesh, shardings: Any, *, count: int = 1
) -> Callable[..., tuple[State, Metrics]]:
    """Compiles `count` steps as one: `(state, frozen, resident, inputs [count, batch, ...]) -> (state, metrics)`.

    Args:
        step: the pure step.
        make_batch: `(resident, inputs) -> batch`, the loader's.
        mesh: the devices.
        shardings: of the state.
        count: the number of steps; the metrics are `[count]`, and inputs and metrics of one step have no such axis.
    """

    def one_step(state: State, frozen: Frozen, resident: Batch, inputs: Batch) -> tuple[State, Metrics]:
        with jax.named_scope(INPUT):
            batch = make_batch(resident, inputs)
        return step(state, frozen, batch)

    def many_steps(state: State, frozen: Frozen, resident: Batch, inputs: Batch) -> tuple[State, Metrics]:
        return jax.lax.scan(lambda state, inputs: one_step(state, frozen, resident, inputs), state, inputs)

    outputs = (shardings, sharding.replicated(mesh))
    steps = sharding.traced_on(mesh, one_step if count == 1 else many_steps)
    return xla_options.jit(steps, donate_argnums=0, out_shardings=outputs)


def fit(
    training: Training,
    state: State,
    frozen: Frozen,
    *,
    start: int,
    checkpoints: Checkpoints,
    workdir: pathlib.Path,
    metadata: Mapping[str, Any],
) -> State:
    """Trains from step `start` to the end.

    Args:
        training: the stage.
        state: the state after step `start`; it is donated.
        frozen: the frozen variables in the form that the step takes.
        start: the step to continue from; 0 for a new run.
        checkpoints: written at the intervals and at the end.
        workdir: the run's, for the log and the profile.
        metadata: stored beside each checkpoint.

    Raises:
        TrainingFailed: if a loss, a gradient or a weight is not finite, with the term and the step, or by an alarm.
        Interrupted: after SIGTERM or Ctrl-C, when the state is saved.
    """
    stage, intervals = training.stage, training.intervals.with_fewest_calls()
    training = dataclasses.replace(training, intervals=intervals)
    monitor = Monitor(
        stage,
        workdir,
        checkpoints,
        start=start,
        steps=intervals.steps,
        log_every=intervals.log_every,
        batch=training.batch,
        examples=training.examples,
        learning_rates=training.learning_rates,
        throughput=Throughput(start, batch=training.batch, devices=training.mesh.size, peak_flops=training.peak_flops),
        advice=RESIDENT_ADVICE if training.loader.resident else STREAMED_ADVICE,
        alarm=training.alarm,
        trackers=training.trackers,
    )
    with (
        contextlib.closing(monitor),
        contextlib.closing(Prefetcher(_put_inputs(training, start), training.prefetch, monitor.print)) as prefetcher,
        contextlib.closing(Profile(workdir / stage / FOLDER, training.profile_steps, monitor.print)) as profile,
        jax.transfer_guard("disallow"),
    ):
        tools = Tools(prefetcher=prefetcher, monitor=monitor, profile=profile, checkpoints=checkpoints)
        state = _loop(training, state, frozen, tools=tools, start=start, metadata=metadata)
    if summary := monitor.throughput.summary():
        training.log(f"stage {stage}: {summary}")
    return state


@dataclasses.dataclass(frozen=True)
class Tools:
    """The source of the loop's inputs, and the readers and writers of its results."""

    prefetcher: Prefetcher
    monitor: Monitor
    profile: Profile
    checkpoints: Checkpoints


def _loop(
    training: Training,
    state: State,
    frozen: Frozen,
    *,
    tools: Tools,
    start: int,
    metadata: Mapping[str, Any],
) -> State:
    intervals, loader = training.intervals, training.loader
    monitor, throughput = tools.monitor, tools.monitor.throughput
    resident = jax.device_put(dict(loader.resident), sharding.replicated(training.mesh))
    compiled = {count: training.compile(count) for count in {1, intervals.steps_per_call}}
    counted: dict[tuple[Any, ...], dict[str, int]] = {}
    step, pending = start, None
    while step < intervals.steps:
        with jax.profiler.TraceAnnotation(time_split.WAITED):
            (count, inputs), wait = tools.prefetcher.next(running=pending)
        throughput.add_wait(wait)
        shapes = tuple(x.shape[count > 1 :] for x in inputs.values())
        if shapes not in counted:  # batches of texts have several lengths
            numbers = flops.count(compiled[count], *(state, frozen, resident, inputs))
            counted[shapes] = {kind: number // count for kind, number in numbers.items()}
        compiles = step == start
        lower = functools.partial(_lower, compiled[count], (state, frozen, resident, inputs))
        with tools.profile.before(step, count, shapes, lower), preemption.losing_nothing(compiles):
            state, metrics = compiled[count](state, frozen, resident, inputs)
        if pending is not None:  # read one dispatch late, so that the device never waits for the host
            monitor.record(step, pending)
        step, pending = step + count, metrics
        throughput.set_flops(counted[shapes])

        stopping = preemption.is_requested()
        at_boundary = step == intervals.next_boundary(step - count)
        if not (at_boundary or stopping or tools.profile.is_full(step)):
            continue
        monitor.record(step, pending)  # nothing is saved before all steps up to it are finite
        pending = None
        with throughput.paused():
            if tools.profile.is_full(step):
                tools.profile.close()
            if at_boundary or stopping:
                numbers = {}
                if training.evaluate and intervals.evaluates(step):
                    numbers = monitor.record_evaluation(step, training.evaluate(state))
                tools.checkpoints.save(step, state, numbers, metadata)
        if stopping:
            tools.checkpoints.wait()
            raise preemption.interrupted(
                f"stopped by a signal in stage {training.stage!r}; step {step} of {intervals.steps} is saved in"
                f" {tools.checkpoints.folder}."
            )
    tools.checkpoints.wait()
    return state


def _lower(function: Any, arguments: tuple[Any, ...]) -> jax.stages.Lowered:
    return function.lower(*arguments)


def _put_inputs(training: Training, start: int) -> Iterator[tuple[int, Any]]:
    """Yields the number of steps of each dispatch, and their inputs on the devices."""
    intervals, loader = training.intervals, training.loader
    inputs = loader.step_inputs(start, intervals.steps)
    for count in intervals.calls(start):
        parts = loader.crop(list(itertools.islice(inputs, count)))
        if count == 1:
            yield count, sharding.put(training.mesh, parts[0], loader.leading)
        else:
            stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
            yield count, sharding.put(training.mesh, stacked, loader.leading + 1)
