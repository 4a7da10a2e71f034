"""Throughput: examples and model FLOPs per second, utilisation, and the fraction of time without data."""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import jax

from jaxdistill.runtime.compilation_cache import compilation_log
from jaxdistill.train import flops

STARVED = 0.25
"""Warn above this fraction of time spent waiting for data."""

LONG = 5.0
"""Seconds of training before the first warning."""


@dataclasses.dataclass
class _Total:
    """Steps, seconds of training, seconds of these in which the device had no data, and FLOPs by type of operand."""

    steps: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    flops: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, steps: int, seconds: float, waiting: float, flops_per_step: Mapping[str, int]) -> None:
        self.steps += steps
        self.seconds += seconds
        self.waiting += waiting
        self.flops.update({kind: steps * number for kind, number in flops_per_step.items()})


class Throughput:
    """Adds up the time between dispatches, without that in which anything was compiled, evaluated or saved.

    Args:
        start: the step that training starts from.
        batch: examples of a step.
        devices: the number of devices that share a step.
        peak_flops: the FLOP/s of a device; 0 for the data sheet of its kind.
        clock: seconds.
    """

    def __init__(
        self,
        start: int,
        *,
        batch: int,
        devices: int,
        peak_flops: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._batch, self._devices, self._peak_flops, self._clock = batch, devices, peak_flops, clock
        self._flops: Mapping[str, int] = {}
        self._step = start
        self._whole, self._window = _Total(), _Total()
        self._warned = False
        self._restart(clock())

    def _restart(self, now: float) -> None:
        self._time, self._programs, self._waiting = now, compilation_log().total.programs, 0.0

    def set_flops(self, per_step: Mapping[str, int]) -> None:
        """Sets the FLOPs of each of the steps that are recorded next, by type of operand (`flops.count`)."""
        self._flops = per_step

    def add_wait(self, seconds: float) -> None:
        """Adds time in which the device was idle for want of data."""
        self._waiting += seconds

    def record(self, step: int) -> None:
        """Counts the steps up to `step`, whose dispatch has ended, unless something was compiled meanwhile."""
        now = self._clock()
        if compilation_log().total.programs == self._programs:
            for total in (self._whole, self._window):
                total.add(step - self._step, now - self._time, self._waiting, self._flops)
        self._step = step
        self._restart(now)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the time since the last recorded step, and that in the block."""
        try:
            yield
        finally:
            self._restart(self._clock())

    def take_window(self) -> dict[str, float]:
        """Returns the numbers since the last call, for a line of the log; none if no step was counted."""
        numbers = self._numbers(self._window)
        self._window = _Total()
        return numbers

    def _numbers(self, total: _Total) -> dict[str, float]:
        if not total.steps or total.seconds <= 0:
            return {}
        numbers = {
            "examples_per_second": total.steps * self._batch / total.seconds,
            "data_wait": min(total.waiting / total.seconds, 1.0),
        }
        if total.flops:
            numbers["model_flops_per_second"] = sum(total.flops.values()) / total.seconds
            least = flops.least_seconds(total.flops, jax.devices()[0].device_kind, self._peak_flops)
            if least is not None:
                numbers["utilisation"] = least / self._devices / total.seconds
        return numbers

    def wait_fraction(self) -> float:
        """Returns the fraction of the counted time that was spent waiting for data."""
        return self._numbers(self._whole).get("data_wait", 0.0)

    def should_warn(self) -> bool:
        """Whether to warn that training waits for its data; true once."""
        if self._warned or self._whole.seconds < LONG or self.wait_fraction() < STARVED:
            return False
        self._warned = True
        return True

    def summary(self) -> str:
        """Describes the throughput of the whole stage; "" if no step was counted."""
        numbers = self._numbers(self._whole)
        if not numbers:
            return ""
        parts = [f"{numbers['examples_per_second']:,.0f} examples/s"]
        if "model_flops_per_second" in numbers:
            parts += [f"{numbers['model_flops_per_second'] / 1e9:,.4g} model GFLOP/s"]
        if "utilisation" in numbers:
            parts[-1] += f" ({numbers['utilisation']:.1%} of the peak)"
        return ", ".join([*parts, f"{numbers['data_wait']:.0%} of the time waiting for data"])
