"""What a run writes while it trains: `metrics.jsonl`, TensorBoard events, and a progress bar."""

import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax

from jaxdistill.runtime import files

CLOCKED = ("examples_per_second", "data_wait", "model_flops_per_second", "utilisation")
"""Keys of a line of `metrics.jsonl` that depend on the clock (`train.speed`)."""

RESERVED = ("stage", "step", "epoch", "rate", "loss", "grad_norm", "weight_norm", "split", *CLOCKED)
"""Keys of a line of `metrics.jsonl` that are not a term's; no term may be named so."""


class Log:
    """One stage's lines in `workdir/metrics.jsonl` and events in `workdir/tensorboard/<stage>`.

    Lines of this stage after step `start`, left by a run that was cut off, are dropped: they come again.
    """

    def __init__(self, workdir: pathlib.Path, stage: str, start: int):
        from tensorboardX import SummaryWriter

        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        self.stage, path = stage, workdir / "metrics.jsonl"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        kept = [line for line in lines if self._stays(line, start)]
        files.write_text(path, "".join(line + "\n" for line in kept))
        self._lines = path.open("a")
        self._events = SummaryWriter(str(workdir / "tensorboard" / stage), purge_step=start + 1)

    def _stays(self, line: str, start: int) -> bool:
        try:
            said = json.loads(line)
        except json.JSONDecodeError:  # the half line of a killed run
            return False
        if not isinstance(said, dict) or not {"stage", "step"} <= said.keys():
            return False
        return said["stage"] != self.stage or said["step"] <= start

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a line; a number that is not finite is written as null, which JSON can hold."""
        if not self._writes:
            return
        said = {"stage": self.stage, "step": step} | {k: _rounded(v) for k, v in values.items()}
        self._lines.write(json.dumps(said) + "\n")
        self._lines.flush()
        for name, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writes:
            self._lines.close()
            self._events.close()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


class Bar:
    """A progress bar on stderr: steps, time left, loss, learning rate, and the share of time without data."""

    def __init__(self, stage: str, start: int, steps: int):
        from tqdm import tqdm

        quick = 0.1 if sys.stderr.isatty() else 2.0
        self._bar = tqdm(
            total=steps,
            initial=start,
            desc=stage,
            unit="step",
            mininterval=quick,
            dynamic_ncols=True,
            disable=jax.process_index() != 0,
        )

    def show(self, step: int, loss: float, rate: float, wait: float) -> None:
        self._bar.set_postfix(loss=f"{loss:.4g}", rate=f"{rate:.3g}", data_wait=f"{wait:.0%}", refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, message: str) -> None:
        """Prints a line, and the bar again below it."""
        self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
