"""Metrics in a run of Weights & Biases.

A workdir is one run there, which all stages and launches continue. Its own variables set the rest: WANDB_PROJECT,
WANDB_ENTITY, WANDB_NAME, and WANDB_MODE=offline for files in `WORKDIR/wandb` that `wandb sync` sends later.
"""

import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.trackers.tracker import Tracker, find_identifier, read_config

PROJECT = "jaxdistill"
"""The project without WANDB_PROJECT."""


SECOND = 1.0
"""The library names its folders by the second, so that two runs begun within one would share a file."""

_begun = [0.0]


class Wandb(Tracker):
    """A run of Weights & Biases. The metrics of a stage have the name `STAGE/METRIC` and the axis `STAGE/step`."""

    def __init__(self, workdir: pathlib.Path, stage: str, start: int):
        super().__init__(workdir, stage, start)
        wandb = _import("trackers")
        time.sleep(max(0.0, _begun[0] + SECOND - time.monotonic()))
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=os.environ.get("WANDB_NAME", workdir.name),
                id=find_identifier(workdir, "wandb"),
                resume="allow",
                dir=workdir,
                config=read_config(workdir),
                settings=wandb.Settings(console="off"),
            )
        except Exception as error:  # the library raises errors of several bases
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"trackers must be accepted by Weights & Biases, got {line!r} for 'wandb'. Log in (wandb login), set"
                " WANDB_MODE=offline, or leave it out"
            ) from error
        _begun[0] = time.monotonic()
        self._run.define_metric(f"{stage}/step", hidden=True)
        self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    @classmethod
    def check(cls, path: str) -> None:
        _import(path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({f"{self.stage}/{name}": value for name, value in values.items()} | {f"{self.stage}/step": step})

    def write_results(self, rows: Mapping[str, Mapping[str, float]]) -> None:
        numbers = {f"{network}/{name}": value for network, row in rows.items() for name, value in row.items()}
        self._run.summary.update({f"{self.stage}/{name}": value for name, value in numbers.items()})

    def close(self) -> None:
        self._run.finish()


def _import(path: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"{path} must have the library of each tracker, got 'wandb' without it ({error}). pip install"
            " 'jaxdistill[wandb]', or leave it out"
        ) from error
    return wandb
