"""Logs of training: `metrics.jsonl`, trackers, and a progress bar or lines."""

import json
import math
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax

from jaxdistill.config import registry
from jaxdistill.runtime import background, failures, files
from jaxdistill.trackers.tracker import Tracker

CLOCKED = ("examples_per_second", "data_wait", "model_flops_per_second", "utilisation")
"""Keys of a line of `metrics.jsonl` that depend on the clock (`train.throughput`)."""

WRITTEN = ("written_length", "written_repetition", "written_entropy")
"""Keys of a line of `metrics.jsonl` of a stage whose networks write texts (`generation.health`)."""

RESERVED = ("stage", "step", "epoch", "rate", "loss", "grad_norm", "weight_norm", "split", *CLOCKED, *WRITTEN)
"""Keys of a line of `metrics.jsonl` that are not a term's; no term may be named so."""


TRACKERS = ("tensorboard",)
"""The trackers of a stage that names none."""


class Trackers:
    """The trackers of a stage. One that fails leaves out that line, with a note, and is tried again with the next.

    Args:
        names: of trackers, or `"package.module:Name"`.
        workdir: of the run.
        stage: its name.
        start: the step that it starts after.
        log: prints a line.

    Raises:
        UserError: if a tracker cannot begin.
    """

    def __init__(
        self,
        names: Sequence[str],
        workdir: pathlib.Path,
        stage: str,
        start: int,
        *,
        log: Callable[[str], None],
    ):
        self._log = log
        self._trackers: dict[str, Tracker] = {}
        try:
            for name in dict.fromkeys(names):
                self._trackers[name] = registry.find("tracker", name, "trackers")(workdir, stage, start)
        except BaseException:
            self.close()
            raise

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds the numbers of a step."""
        numbers = select_numbers(values)
        self._each(f"step {step}", lambda tracker: tracker.write(step, numbers))

    def write_results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds the rows of a final evaluation."""
        numbers = {row["network"]: select_numbers(row) for row in rows}
        self._each("the results", lambda tracker: tracker.write_results(numbers))

    def close(self) -> None:
        self._each("the end", lambda tracker: tracker.close())

    def _each(self, what: str, act: Callable[[Tracker], None]) -> None:
        for name, tracker in self._trackers.items():
            try:
                act(tracker)
            except Exception as error:  # libraries of services raise anything, and training goes on without them
                if failures.is_of_access(error):  # of the disk of the workdir
                    raise
                line = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                self._log(f"note: tracker {name!r} lacks {what}, which metrics.jsonl has ({line})")


def select_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the entries that are numbers."""
    return {name: x for name, x in values.items() if isinstance(x, int | float) and not isinstance(x, bool)}


class MetricsWriter:
    """One stage's lines in `workdir/metrics.jsonl`, and its trackers.

    Lines of this stage after step `start`, left by a run that was interrupted, are dropped: they are written again.

    Args:
        workdir: of the run.
        stage: its name.
        start: the step that it starts after.
        trackers: their names.
        log: prints a line.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        stage: str,
        start: int,
        trackers: Sequence[str] = TRACKERS,
        *,
        log: Callable[[str], None] = print,
    ):
        self._is_writer = jax.process_index() == 0
        if not self._is_writer:
            return
        self.stage, path = stage, workdir / "metrics.jsonl"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        files.write_text(path, "".join(line + "\n" for line in lines if self._is_current(line, start)))
        self._lines = path.open("a")
        self._trackers = Trackers(trackers, workdir, stage, start, log=log)

    def _is_current(self, line: str, start: int) -> bool:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # half a line of a killed run
            return False
        if not isinstance(entry, dict) or not {"stage", "step"} <= entry.keys():
            return False
        return entry["stage"] != self.stage or entry["step"] <= start

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a line; a number that is not finite is written as null, as JSON has no other form for it."""
        if not self._is_writer:
            return
        background.check()
        entry = {"stage": self.stage, "step": step} | {name: _rounded(value) for name, value in values.items()}
        self._lines.write(json.dumps(entry) + "\n")
        self._lines.flush()
        self._trackers.write(step, values)

    def close(self) -> None:
        if self._is_writer:
            self._lines.close()
            self._trackers.close()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


LINE_SECONDS = 30.0
"""Seconds between two lines about the progress of a stage without a terminal."""


class Progress(Protocol):
    """The progress of a stage for people: a bar in a terminal or a notebook, lines elsewhere."""

    def show(self, step: int, *, loss: float, learning_rate: float, wait: float) -> None: ...

    def print(self, line: str) -> None: ...

    def close(self) -> None: ...


def make_progress(stage: str, start: int, steps: int) -> Progress:
    """Returns a bar if there is a terminal or a notebook, and lines otherwise, such as in a job's log."""
    has_bar = sys.stderr.isatty() or "ipykernel" in sys.modules
    return ProgressBar(stage, start, steps) if has_bar else ProgressLines(stage, start, steps)


class ProgressLines:
    """Lines on stderr: one every `seconds`, and one at the end; while a step lasts, with the time since the last.

    A line ends in a line feed and has no carriage return, so that logs of jobs can be read.
    """

    def __init__(self, stage: str, start: int, steps: int, seconds: float = LINE_SECONDS):
        self._stage, self._start, self._step, self._steps = stage, start, start, steps
        self._numbers, self._shown = "", -1
        self._began = self._moved = time.monotonic()
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._repeat, args=(seconds,), daemon=True)
        if jax.process_index() == 0:
            self._thread.start()

    def _repeat(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            self._write()

    def _write(self) -> None:
        now, done = time.monotonic(), self._step - self._start
        left = f", {(now - self._began) / done * (self._steps - self._step):.0f} s left" if done else ""
        still = f", still after {now - self._moved:.0f} s" if self._shown == self._step else ""
        self._shown = self._step
        self.print(f"stage {self._stage}: step {self._step:,} of {self._steps:,}{self._numbers}{still or left}")

    def show(self, step: int, *, loss: float, learning_rate: float, wait: float) -> None:
        """Keeps the numbers of a step for the next line; the arguments are those of `ProgressBar.show`."""
        self._step, self._moved = step, time.monotonic()
        self._numbers = f", loss {loss:.4g}, rate {learning_rate:.3g}, data_wait {wait:.0%}"

    def print(self, line: str) -> None:
        """Prints a line."""
        with self._lock:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Prints the last step, if no line has."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if jax.process_index() == 0 and self._shown != self._step:
            self._write()


class ProgressBar:
    """A progress bar: steps, time left, loss, learning rate, and the fraction of time without data.

    It is on stderr, or a widget in a notebook that has ipywidgets.
    """

    def __init__(self, stage: str, start: int, steps: int):
        from tqdm.auto import tqdm

        interval = 0.1 if sys.stderr.isatty() else 2.0
        self._bar = tqdm(
            total=steps,
            initial=start,
            desc=stage,
            unit="step",
            mininterval=interval,
            dynamic_ncols=True,
            disable=jax.process_index() != 0,
        )

    def show(self, step: int, *, loss: float, learning_rate: float, wait: float) -> None:
        """Moves the bar to a step.

        Args:
            step: the steps that are done.
            loss, learning_rate: of the last step.
            wait: the fraction of time spent waiting for data.
        """
        self._bar.set_postfix(loss=f"{loss:.4g}", rate=f"{learning_rate:.3g}", data_wait=f"{wait:.0%}", refresh=False)
        self._bar.update(step - self._bar.n)

    def print(self, line: str) -> None:
        """Prints a line, and the bar again below it."""
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
