"""Preemption: SIGTERM and Ctrl-C end a run after its state is saved."""

import signal
from types import FrameType
from typing import Any

import jax


class StopSignal:
    """Within the block the first signal only sets a flag; a second Ctrl-C interrupts at once.

    In a job of several processes JAX's own notifier listens instead, so that all of them agree on the step.

    Attributes:
        signal: the number of the signal, `None` before one came.
    """

    def __init__(self):
        self.signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._set_flag)
        return self

    def _set_flag(self, number: int, _frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def is_requested(self, step: int) -> bool:
        """Whether to stop after `step`; the same on every process."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                self.signal = signal.SIGTERM
        return self.signal is not None

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
