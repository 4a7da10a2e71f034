"""Logs of training: `metrics.jsonl`, TensorBoard events, and a progress bar."""

import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax

from jaxdistill.runtime import background, files
from jaxdistill.train.events import EventFile

CLOCKED = ("examples_per_second", "data_wait", "model_flops_per_second", "utilisation")
"""Keys of a line of `metrics.jsonl` that depend on the clock (`train.throughput`)."""

RESERVED = ("stage", "step", "epoch", "rate", "loss", "grad_norm", "weight_norm", "split", *CLOCKED)
"""Keys of a line of `metrics.jsonl` that are not a term's; no term may be named so."""


class MetricsWriter:
    """One stage's lines in `workdir/metrics.jsonl` and events in `workdir/tensorboard/<stage>`.

    Lines of this stage after step `start`, left by a run that was interrupted, are dropped: they are written again.
    """

    def __init__(self, workdir: pathlib.Path, stage: str, start: int):
        self._is_writer = jax.process_index() == 0
        if not self._is_writer:
            return
        self.stage, path = stage, workdir / "metrics.jsonl"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        files.write_text(path, "".join(line + "\n" for line in lines if self._is_current(line, start)))
        self._lines = path.open("a")
        self._events = EventFile(workdir / "tensorboard" / stage, start + 1)

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
        scalars = {name: value for name, value in values.items() if isinstance(value, int | float)}
        self._events.add(step, {name: value for name, value in scalars.items() if not isinstance(value, bool)})

    def close(self) -> None:
        if self._is_writer:
            self._lines.close()
            self._events.close()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


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
