"""Being asked to stop: SIGTERM and Ctrl-C end a run after its state is saved."""

import signal

import jax


class Stop:
    """Within the block the first signal only raises a flag; a second Ctrl-C interrupts at once.

    In a job of several processes JAX's own notifier listens instead, so that all of them agree on the step.
    """

    def __init__(self):
        self.signal: int | None = None
        self._before = {}

    def __enter__(self):
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._raise_flag)
        return self

    def _raise_flag(self, number, _frame):
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def asked(self, step: int) -> bool:
        """Whether to stop after `step`; the same answer on every process."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                self.signal = signal.SIGTERM
        return self.signal is not None

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
