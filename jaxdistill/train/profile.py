"""A profile of some early steps, for TensorBoard and Perfetto."""

import contextlib
import pathlib
from collections.abc import Callable

import jax

FOLDER = "profile"
"""Where it is written in a stage's folder."""


class Profile:
    """Records `steps` steps, the first whose program is compiled; in process 0, and nothing where `steps` is 0."""

    def __init__(self, folder: pathlib.Path, stage: str, steps: int, say: Callable[[str], None]):
        self._folder, self._stage, self._say = folder, stage, say
        self._left = steps if jax.process_index() == 0 else 0
        self._seen: set[int] = set()
        self._first: int | None = None
        self._last = 0

    def before(self, done: int, count: int) -> contextlib.AbstractContextManager:
        """Called before `count` steps after step `done` are dispatched, in what it returns."""
        if self._left and self._first is None and count in self._seen:
            # The device's and XLA's events are wanted, a line for every call of Python would bury them.
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
            self._first = done + 1
        self._seen.add(count)
        if self._first is None or not self._left:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train", step_num=done + 1)

    def is_full(self, done: int) -> bool:
        """Called when the steps up to `done` are dispatched: whether these are all that was to be recorded."""
        if not self._left or self._first is None:
            return False
        self._last = done
        return done - self._first + 1 >= self._left

    def close(self) -> None:
        """Writes what was recorded."""
        if not self._left:
            return
        self._left = 0
        if self._first is None:
            self._say(f"stage {self._stage}: too few steps for a profile; the first of a program are not recorded")
            return
        jax.profiler.stop_trace()
        found = max(self._folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
        self._say(
            f"stage {self._stage}: profile of steps {self._first} to {self._last}: open {found} at"
            f" https://ui.perfetto.dev, or run tensorboard --logdir {self._folder} (with its plugin, xprof)"
        )
