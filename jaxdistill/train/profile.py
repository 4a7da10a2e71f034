"""Profiles of some early steps, for TensorBoard and Perfetto."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jaxdistill.runtime import files
from jaxdistill.train import time_split

FOLDER = "profile"
"""The name of the profile's folder in a stage's folder."""


class Profile:
    """Records early steps, from the first whose program is compiled on; in process 0 alone.

    The time of these by the parts of a step (`time_split`) is a line of the log, and `parts.json`.

    Args:
        folder: where it is written.
        steps: the number of steps to record; 0 for none.
        log: prints a line.
    """

    def __init__(self, folder: pathlib.Path, steps: int, log: Callable[[str], None]):
        self._folder, self._log = folder, log
        self._steps = steps if jax.process_index() == 0 else 0
        self._compiled: set[int] = set()
        self._programs: dict[int, tuple[Any, jax.stages.Lowered]] = {}
        self._has_lengths, self._dispatches = False, 0
        self._first: int | None = None
        self._last = 0

    def before(
        self, step: int, count: int, shapes: Any, lower: Callable[[], jax.stages.Lowered]
    ) -> contextlib.AbstractContextManager:
        """Returns the context in which `count` steps after `step` are dispatched.

        Args:
            step: the last step before.
            count: the number of steps.
            shapes: of their inputs.
            lower: returns their program, lowered.
        """
        starts = self._steps and self._first is None and count in self._compiled
        self._compiled.add(count)
        if not self._steps or (self._first is None and not starts):
            return contextlib.nullcontext()
        if count not in self._programs:
            self._programs[count] = shapes, lower()
        self._has_lengths |= self._programs[count][0] != shapes
        self._dispatches += 1
        if starts:
            # Events of the device and of XLA are wanted; a line for every call of Python would bury them.
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
            self._first = step + 1
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
        self._split(trace)

    def _split(self, trace: pathlib.Path) -> None:
        """Logs and writes the time of the recorded steps by their parts."""
        kind = "processes" if jax.process_count() > 1 else "programs" if len(self._programs) > 1 else ""
        kind = kind or "lengths of texts" * self._has_lengths
        if kind:
            self._log(f"the recorded steps are of several {kind}, so that their time is not split by parts")
            return
        ((count, (_, lowered)),) = self._programs.items()
        compiled = lowered.compile()
        module, parts = time_split.read_parts(compiled.as_text() or "")
        seconds, runs = time_split.split(time_split.read_events(trace), module, parts, self._dispatches)
        if not runs:
            self._log(f"{trace} has no operations of the step, or was cut, so that its time is not split by parts")
            return
        files.write_json(self._folder / "parts.json", {"steps": runs * count, "seconds": seconds})
        self._log(time_split.describe(seconds, runs * count))
