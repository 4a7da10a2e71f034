"""The loop: feed a step, look at the metrics of the one before, now and then evaluate and save."""

import dataclasses
import itertools
import math
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdistill.core import Schedule, State, Variables
from jaxdistill.errors import Interrupted, TrainingFailed
from jaxdistill.runtime import xla_options
from jaxdistill.train import flops
from jaxdistill.train import mesh as sharding
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.metrics_log import Bar, Log
from jaxdistill.train.preemption import Stop
from jaxdistill.train.prefetch import Feeding
from jaxdistill.train.profile import FOLDER, Profile
from jaxdistill.train.step import Step
from jaxdistill.train.throughput import Speed


@dataclasses.dataclass(frozen=True)
class Job:
    """What `fit` is asked to do.

    Attributes:
        stage: its name, for messages and lines.
        step: the pure step.
        loader: feeds batches (`data.loader`).
        placed: the shardings of the state.
        steps: optimizer steps in all.
        batch, examples: sizes of a batch and of the training split.
        rate: the learning rate by step, for the log.
        evaluate: state -> `{name: number}`, or `None`.
        evaluate_every, log_every, save_every: in steps; 0 for never (but at the end).
        dispatch: steps per dispatch at most: as many are taken as let the whole run have the fewest dispatches.
        ahead: dispatches whose data is put on the device in advance.
        peak: FLOP/s of a device at most; 0 for what is known of its kind.
        profile: steps to record; 0 for none.
        say: what prints.
    """

    stage: str
    step: Step
    loader: Any
    mesh: Mesh
    placed: Any
    steps: int
    batch: int
    examples: int
    rate: Schedule
    evaluate: Callable[[State], Mapping[str, float]] | None
    evaluate_every: int
    log_every: int
    save_every: int
    dispatch: int
    ahead: int = 0
    peak: float = 0.0
    profile: int = 0
    say: Callable[[str], None] = print


def dispatcher(step: Step, raw: Callable, mesh: Mesh, placed: Any, count: int) -> Callable:
    """Compiles `count` steps as one: `(state, frozen, held, fed [count, batch, ...]) -> (state, metrics [count])`.

    Args:
        step: the pure step.
        raw: `(held, fed) -> batch`, the loader's.
        placed: the shardings of the state.
    """

    def one(state, frozen, held, fed):
        return step(state, frozen, raw(held, fed))

    def several(state, frozen, held, fed):
        return jax.lax.scan(lambda state, fed: one(state, frozen, held, fed), state, fed)

    outputs = (placed, sharding.replicated(mesh))
    return xla_options.jit(one if count == 1 else several, donate_argnums=0, out_shardings=outputs)


def fit(
    job: Job,
    state: State,
    frozen: Mapping[str, Variables],
    checkpoints: Checkpoints,
    workdir: pathlib.Path,
    about: Mapping[str, Any],
) -> State:
    """Trains from `state.step` to `job.steps`.

    Raises:
        TrainingFailed: where a loss, a gradient or a weight is not finite, naming the term and the step.
        Interrupted: after SIGTERM or Ctrl-C, when the state is saved.
    """
    start = int(np.max(jax.device_get(state.step)))  # of lanes, all have one number
    job = dataclasses.replace(job, dispatch=_fitting(job))
    log = Log(workdir, job.stage, start)
    bar = Bar(job.stage, start, job.steps)
    feeding = Feeding(_batches(job, start), job.ahead, lambda said: bar.say(f"stage {job.stage}: {said}"))
    profile = Profile(workdir / job.stage / FOLDER, job.stage, job.profile, bar.say)
    try:
        watch = Watch(job, log, bar, checkpoints, start)
        with Stop() as stop, jax.transfer_guard("disallow"):
            state = _loop(job, state, frozen, checkpoints, watch, stop, about, feeding, profile)
    finally:
        feeding.close()
        profile.close()
        bar.close()
        log.close()
    if watch.speed.told():
        job.say(f"stage {job.stage}: {watch.speed.told()}")
    return state


def _batches(job: Job, start: int) -> Iterator[tuple[int, Any]]:
    """Yields how many steps each dispatch makes, and what it is fed with."""
    feeds, done = job.loader.feeds(start, job.steps), start
    while done < job.steps:
        count = job.dispatch if _boundary(job, done) - done >= job.dispatch else 1
        yield count, sharding.put(job.mesh, *_stack(feeds, count, job.loader.leading))
        done += count


def _loop(job, state, frozen, checkpoints, watch, stop, about, feeding, profile) -> State:
    held = jax.device_put(dict(job.loader.held), sharding.replicated(job.mesh))
    raw, counts = job.loader.raw, {1, job.dispatch}
    compiled = {count: dispatcher(job.step, raw, job.mesh, job.placed, count) for count in counts}
    done, metrics = watch.start, None
    while done < job.steps:
        (count, fed), waited = feeding.next(metrics)
        watch.speed.waited(waited)
        if metrics is None:
            counted = flops.count(compiled[count], state, frozen, held, fed)
            watch.speed.computes({kind: number // count for kind, number in counted.items()})
        with profile.before(done, count):
            state, metrics = compiled[count](state, frozen, held, fed)
        done += count
        watch.look(done, metrics)
        if profile.is_full(done):
            watch.flush()  # the last of its steps has ended
            profile.close()
            watch.rest()
        stopping = stop.asked(done)
        if done == _boundary(job, done - count) or stopping:
            # Nothing is saved before the metrics of every step up to it are known to be finite.
            watch.flush()
            found = {}
            if job.evaluate and (done == job.steps or _due(done, job.evaluate_every)):
                found = watch.evaluated(done, job.evaluate(state))
            checkpoints.save(done, state, found, about)
            watch.rest()
        if stopping:
            checkpoints.wait()
            raise Interrupted(
                f"stopped by a signal in stage {job.stage!r}; step {done} of {job.steps} is saved in"
                f" {checkpoints.folder}. The same command again goes on from there.",
                status=128 + stop.signal,
            )
    checkpoints.wait()
    return state


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _boundary(job: Job, done: int) -> int:
    """The next step after `done` at which something other than training is due."""
    nexts = [done + every - done % every for every in (job.evaluate_every, job.save_every) if every > 0]
    return min([job.steps, *nexts])


def _starved(job: Job) -> str:
    if job.loader.held:
        return "telling the device which examples are next; make several steps in a dispatch, dispatch=16"
    return (
        "waiting for data; hold it on the device (data.resident=yes), read with more threads (data.threads), or prepare"
        " images that are smaller or not compressed"
    )


def _fitting(job: Job) -> int:
    """The steps per dispatch, `job.dispatch` at most, that cut what lies between boundaries into the fewest pieces."""
    lengths: Counter[int] = Counter()
    done = 0
    while done < job.steps:
        lengths[_boundary(job, done) - done] += 1
        done = _boundary(job, done)
    counts = range(1, job.dispatch + 1)
    return min(counts, key=lambda count: sum(n * (long // count + long % count) for long, n in lengths.items()))


def _stack(feeds: Iterator[Mapping[str, np.ndarray]], count: int, leading: int) -> tuple[dict[str, np.ndarray], int]:
    parts = list(itertools.islice(feeds, count))
    if count == 1:
        return dict(parts[0]), leading
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}, leading + 1


class Watch:
    """Looks at metrics one dispatch late, so that the device never waits for the host."""

    def __init__(self, job: Job, log: Log, bar: Bar, checkpoints: Checkpoints, start: int):
        self.job, self.log, self.bar, self.checkpoints, self.start = job, log, bar, checkpoints, start
        self._rates = np.asarray(jax.jit(jax.vmap(lambda step: jnp.float32(job.rate(step))))(jnp.arange(job.steps)))
        self._pending: tuple[int, Any] | None = None
        self.speed = Speed(start, job.batch, job.mesh.size, job.peak)

    def look(self, done: int, metrics: Any) -> None:
        """Takes the metrics of the dispatch that ended at step `done`; looks at those of the one before."""
        self.flush()
        self._pending = (done, metrics)

    def rest(self) -> None:
        """What was done since the last dispatch ended was not training."""
        self.flush()
        self.speed.resume()

    def flush(self) -> None:
        """Fetches what is pending, checks it and writes what is due."""
        if self._pending is None:
            return
        done, metrics = self._pending
        self._pending = None
        fetched = {name: np.atleast_1d(value) for name, value in jax.device_get(metrics).items()}
        first = done - len(fetched["loss"])
        self._check(first, fetched)
        self.speed.done(done)
        for row, step in enumerate(range(first + 1, done + 1)):
            if _due(step, self.job.log_every) or step == self.job.steps:
                self._write(step, {name: float(value[row]) for name, value in fetched.items()})
        self.bar.show(done, float(fetched["loss"][-1]), float(self._rates[done - 1]), self.speed.share())
        if self.speed.starved():
            self.bar.say(f"stage {self.job.stage}: {self.speed.share():.0%} of the time is spent {_starved(self.job)}")

    def _check(self, first: int, fetched: Mapping[str, np.ndarray]) -> None:
        bad = {name: np.flatnonzero(~np.isfinite(value)) for name, value in fetched.items()}
        bad = {name: int(rows[0]) for name, rows in bad.items() if len(rows)}
        if not bad:
            return
        row = min(bad.values())
        totals = ("loss", "grad_norm", "weight_norm")
        terms = [name for name, at in bad.items() if at == row and name.rpartition("/")[2] not in totals]
        sums = [name for name in totals if bad.get(name) == row]
        what = (
            f"term {' and '.join(map(repr, terms))}" if terms else {"grad_norm": "the gradient"}.get(sums[0], sums[0])
        )
        value = fetched[(terms or sums)[0]][row]
        kept = self.checkpoints.steps
        last = (
            f"the last good checkpoint is step {kept[-1]} in {self.checkpoints.folder}"
            if kept
            else "nothing was saved yet"
        )
        raise TrainingFailed(
            f"{what} is {value} at step {first + row + 1} of stage {self.job.stage!r}; {last}."
            " Lower the learning rate, clip the gradient (optimizer.clip), or lower that term's weight."
        )

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        about = {"epoch": step * self.job.batch / self.job.examples, "rate": float(self._rates[step - 1])}
        self.log.write(step, about | self.speed.window() | dict(values))

    def evaluated(self, step: int, found: Mapping[str, float]) -> Mapping[str, float]:
        """Writes an evaluation's numbers and passes them on."""
        self.log.write(step, {"epoch": step * self.job.batch / self.job.examples} | dict(found))
        return {name: value for name, value in found.items() if isinstance(value, float) and math.isfinite(value)}
