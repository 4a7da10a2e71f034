"""How fast a stage trains: examples and model FLOPs per second, utilisation, and the share of time without data."""

import time
from collections.abc import Callable, Mapping

import jax

from jaxdistill.runtime import compilation_cache
from jaxdistill.train import flops

STARVED = 0.25
"""The share of time spent waiting for data from which on that is told."""

LONG = 5.0
"""Seconds of training after which it may be told."""


class Speed:
    """Adds up the time between dispatches; that in which anything was compiled, evaluated or saved is not counted.

    Args:
        start: the step that training starts from.
        batch: examples of a step.
        devices: that share a step.
        peak: FLOP/s of a device at most; 0 for what is known of its kind.
        clock: seconds.
    """

    def __init__(
        self, start: int, batch: int, devices: int, peak: float, clock: Callable[[], float] = time.perf_counter
    ):
        self._batch, self._devices, self._peak, self._clock = batch, devices, peak, clock
        self._flops: Mapping[str, int] | None = None
        self._last, self._programs = (start, clock()), compilation_cache.so_far().programs
        self._waiting = 0.0
        self._whole, self._window = [0, 0.0, 0.0], [0, 0.0, 0.0]  # steps, seconds, seconds without data
        self._told = False

    def computes(self, counted: Mapping[str, int]) -> None:
        """Tells the FLOPs of a step, by type of operand (`flops.count`)."""
        self._flops = counted

    def waited(self, seconds: float) -> None:
        """Adds time in which the device had nothing to do for want of data."""
        self._waiting += seconds

    def done(self, step: int) -> None:
        """A dispatch that ended at `step` is known to be finished."""
        (before, then), now, programs = self._last, self._clock(), compilation_cache.so_far().programs
        if programs == self._programs:
            for total in (self._whole, self._window):
                for place, more in enumerate((step - before, now - then, self._waiting)):
                    total[place] += more
        self._last, self._programs, self._waiting = (step, now), programs, 0.0

    def resume(self) -> None:
        """What came since the last dispatch was something else."""
        self._last, self._programs, self._waiting = (
            (self._last[0], self._clock()),
            compilation_cache.so_far().programs,
            0.0,
        )

    def window(self) -> dict[str, float]:
        """The numbers of what was counted since the last call, for a line of the log; nothing where nothing was."""
        found = self._numbers(self._window)
        self._window = [0, 0.0, 0.0]
        return found

    def _numbers(self, total) -> dict[str, float]:
        steps, seconds, waited = total
        if not steps or seconds <= 0:
            return {}
        found = {"examples_per_second": steps * self._batch / seconds, "data_wait": min(waited / seconds, 1.0)}
        if self._flops:
            found["model_flops_per_second"] = steps * sum(self._flops.values()) / seconds
            least = flops.least_seconds(self._flops, jax.devices()[0].device_kind, self._peak)
            if least is not None:
                found["utilisation"] = steps * least / self._devices / seconds
        return found

    def share(self) -> float:
        """The share of the counted time that was spent waiting for data."""
        return self._numbers(self._whole).get("data_wait", 0.0)

    def starved(self) -> bool:
        """Whether to tell that data is what training waits for; true once."""
        if self._told or self._whole[1] < LONG or self.share() < STARVED:
            return False
        self._told = True
        return True

    def told(self) -> str:
        """The whole stage's numbers in words; "" where nothing was counted."""
        found = self._numbers(self._whole)
        if not found:
            return ""
        parts = [f"{found['examples_per_second']:,.0f} examples/s"]
        if "model_flops_per_second" in found:
            parts += [f"{found['model_flops_per_second'] / 1e9:,.4g} model GFLOP/s"]
        if "utilisation" in found:
            parts[-1] += f" ({found['utilisation']:.1%} of the peak)"
        return ", ".join([*parts, f"{found['data_wait']:.0%} of the time waiting for data"])
