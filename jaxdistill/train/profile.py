"""Profiles of some early steps, for TensorBoard and Perfetto."""

import contextlib
import pathlib
from collections.abc import Callable

import jax

FOLDER = "profile"
"""The name of the profile's folder in a stage's folder."""


class Profile:
    """Records early steps, from the first whose program is compiled on; in process 0 alone.

    Args:
        folder: where it is written.
        steps: the number of steps to record; 0 for none.
        log: prints a line.
    """

    def __init__(self, folder: pathlib.Path, steps: int, log: Callable[[str], None]):
        self._folder, self._log = folder, log
        self._steps = steps if jax.process_index() == 0 else 0
        self._compiled: set[int] = set()
        self._first: int | None = None
        self._last = 0

    def before(self, step: int, count: int) -> contextlib.AbstractContextManager:
        """Returns the context in which `count` steps after `step` are dispatched."""
        if self._steps and self._first is None and count in self._compiled:
            # Events of the device and of XLA are wanted; a line for every call of Python would bury them.
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
            self._first = step + 1
        self._compiled.add(count)
        if self._first is None or not self._steps:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train", step_num=step + 1)

    def is_full(self, step: int) -> bool:
        """Whether the steps up to `step`, which are dispatched, are all that is to be recorded."""
        if not self._steps or self._first is None:
            return False
        self._last = step
        return step - self._first + 1 >= self._steps

    def close(self) -> None:
        """Writes what was recorded."""
        if not self._steps:
            return
        self._steps = 0
        if self._first is None:
            self._log("too few steps for a profile; the first of a program are not recorded")
            return
        jax.profiler.stop_trace()
        trace = max(self._folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
        self._log(
            f"profile of steps {self._first} to {self._last}: open {trace} at"
            f" https://ui.perfetto.dev, or run tensorboard --logdir {self._folder} (with its plugin, xprof)"
        )
