"""Metrics of finished steps: checked, logged and shown."""

import functools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdistill.core import Schedule
from jaxdistill.errors import TrainingFailed
from jaxdistill.train.alarm import Alarm
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.metrics_log import TRACKERS, MetricsWriter, make_progress
from jaxdistill.train.throughput import Throughput

TOTALS = {"loss": "loss", "grad_norm": "the gradient", "weight_norm": "weight_norm"}
"""Metrics of a step that are not a term's, and how a message names them."""


class Monitor:
    """Records the metrics of finished steps in the log and on the progress bar.

    Args:
        stage: its name, for messages.
        workdir: the run's, for the log.
        checkpoints: to name the last good one in an error.
        start, steps: the first step and the last one of the stage.
        log_every: the number of steps between lines of the log; 0 for the last alone.
        batch, examples: sizes of a batch and of the training split, for the epoch.
        learning_rates: by step, by name in the log, the first of them as `rate`.
        throughput: counts the recorded steps.
        advice: continues the warning that a fraction of the time is spent ...
        alarm: bounds of the metrics.
        trackers: names of the programs that get the metrics.
    """

    def __init__(
        self,
        stage: str,
        workdir: pathlib.Path,
        checkpoints: Checkpoints,
        *,
        start: int,
        steps: int,
        log_every: int,
        batch: int,
        examples: int,
        learning_rates: Mapping[str, Schedule],
        throughput: Throughput,
        advice: str,
        alarm: Alarm | None = None,
        trackers: Sequence[str] = TRACKERS,
    ):
        self.throughput, self._alarm = throughput, alarm
        self._stage, self._checkpoints, self._advice = stage, checkpoints, advice
        self._steps, self._log_every, self._batch, self._examples = steps, log_every, batch, examples
        self._bar = make_progress(stage, start, steps)
        try:
            self._writer = MetricsWriter(workdir, stage, start, trackers, log=self.print)
        except BaseException:
            self._bar.close()
            raise
        self._learning_rates = learning_rates

    @functools.cached_property
    def _rates(self) -> dict[str, Float[np.ndarray, " steps"]]:
        """The learning rates of all steps, computed when the first one is logged, after the first step."""
        rates, steps = self._learning_rates.items(), self._steps
        rate_of = jax.vmap(lambda step: {name: jnp.float32(rate(step)) for name, rate in rates})
        return jax.device_get(jax.jit(lambda: rate_of(jnp.arange(steps)))())

    def close(self) -> None:
        self._bar.close()
        self._writer.close()

    def print(self, line: str) -> None:
        """Prints a line about the stage above the progress bar."""
        self._bar.print(f"stage {self._stage}: {line}")

    def record(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Waits for the metrics of the dispatch that ends at `step`, checks them, and logs the steps that are due.

        Raises:
            TrainingFailed: if a metric is not finite, with the term and the step, or by an alarm that stops.
        """
        rows = {name: np.atleast_1d(value) for name, value in jax.device_get(metrics).items()}
        first = step - len(rows["loss"])
        self._check_finite(first, rows)
        self._check_alarm(first, rows)
        self.throughput.record(step)
        for row, number in enumerate(range(first + 1, step + 1)):
            if is_due(number, self._log_every) or number == self._steps:
                self._write(number, {name: float(value[row]) for name, value in rows.items()})
        wait, rate = self.throughput.wait_fraction(), float(self._rates["rate"][step - 1])
        self._bar.show(step, loss=float(rows["loss"][-1]), learning_rate=rate, wait=wait)
        if self.throughput.should_warn():
            self.print(f"{wait:.0%} of the time is spent {self._advice}")

    def record_evaluation(self, step: int, numbers: Mapping[str, Any]) -> dict[str, float]:
        """Logs the numbers of an evaluation and returns the finite ones."""
        self._writer.write(step, {"epoch": self._epoch(step)} | dict(numbers))
        return {name: value for name, value in numbers.items() if isinstance(value, float) and math.isfinite(value)}

    def _epoch(self, step: int) -> float:
        return step * self._batch / self._examples

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        rates = {name: float(values[step - 1]) for name, values in self._rates.items()}
        self._writer.write(step, {"epoch": self._epoch(step)} | rates | self.throughput.take_window() | dict(values))

    def _check_alarm(self, first: int, rows: Mapping[str, np.ndarray]) -> None:
        if self._alarm is None:
            return
        breach = self._alarm.find_breach(first, rows, self._steps)
        if breach and self._alarm.stops:
            raise TrainingFailed(
                f"{breach}, in stage {self._stage!r}; {self._last_checkpoint()}. Lower the"
                " learning rate, mix in texts of the data (on_policy.share), or change the bounds"
            )
        if breach:
            self.print(breach)

    def _last_checkpoint(self) -> str:
        steps = self._checkpoints.steps
        if not steps:
            return "nothing was saved yet"
        return f"the last good checkpoint is step {steps[-1]} in {self._checkpoints.folder}"

    def _check_finite(self, first: int, rows: Mapping[str, np.ndarray]) -> None:
        bad_rows = {name: np.flatnonzero(~np.isfinite(value)) for name, value in rows.items()}
        first_bad = {name: int(numbers[0]) for name, numbers in bad_rows.items() if len(numbers)}
        if not first_bad:
            return
        row = min(first_bad.values())
        terms = [name for name, bad in first_bad.items() if bad == row and name.rpartition("/")[2] not in TOTALS]
        totals = [name for name in TOTALS if first_bad.get(name) == row]
        lanes = [name.rpartition("/")[0] for name, bad in first_bad.items() if bad == row and "/" in name]
        finite = [name for name in rows if "/" not in name and name not in TOTALS]
        about = (
            "" if terms else f", in lane {' and '.join(dict.fromkeys(lanes))}" * bool(lanes) + describe_terms(finite)
        )
        culprit = f"term {' and '.join(map(repr, terms))}" if terms else TOTALS[totals[0]]
        raise TrainingFailed(
            f"{culprit} is {rows[(terms or totals)[0]][row]} at step {first + row + 1} of stage {self._stage!r}{about};"
            f" {self._last_checkpoint()}. Lower the learning rate, clip the gradient (optimizer.clip), or lower that"
            " term's weight."
        )


def describe_terms(names: list[str]) -> str:
    """Returns the part of a message that names the terms of a loss, whose own values are finite."""
    return f", though the values of terms {names} are finite" if names else ""


def is_due(step: int, every: int) -> bool:
    """Whether `step` is a multiple of `every`; never if that is 0."""
    return every > 0 and step % every == 0
