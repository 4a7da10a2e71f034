"""Metrics in a run of MLflow.

A workdir is one run there, which all stages and launches continue. Its own variables set the rest: MLFLOW_TRACKING_URI
and MLFLOW_EXPERIMENT_NAME.
"""

import os
import pathlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jaxdistill.config.flat import flatten
from jaxdistill.errors import UserError
from jaxdistill.runtime import files
from jaxdistill.trackers.tracker import RECORD, Tracker, read_config, read_record

EXPERIMENT = "jaxdistill"
"""The experiment without MLFLOW_EXPERIMENT_NAME."""

MOST_METRICS, MOST_PARAMETERS, LONGEST = 1000, 100, 500
"""Metrics and parameters that a request may have, and characters of a parameter, in every store of MLflow."""


class MLflow(Tracker):
    """A run of MLflow. Metrics have the name `STAGE/METRIC`; parameters are the settings of the config."""

    def __init__(self, workdir: pathlib.Path, stage: str, start: int):
        super().__init__(workdir, stage, start)
        mlflow = _import("trackers")
        try:
            self._client = mlflow.MlflowClient()
            self._run = read_record(workdir).get("mlflow") or self._begin()
            self._client.update_run(self._run, status="RUNNING")
        except mlflow.exceptions.MlflowException as error:
            raise UserError(
                f"trackers must be accepted by MLflow, got {str(error).splitlines()[0]!r} for 'mlflow' at"
                f" {mlflow.get_tracking_uri()}. Set MLFLOW_TRACKING_URI to the store of {workdir / RECORD}, remove that"
                " file to begin a new run, or leave 'mlflow' out"
            ) from error

    @classmethod
    def check(cls, path: str) -> None:
        _import(path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_accept(f"{self.stage}/{name}"), float(value), now, step) for name, value in values.items()]
        for part in _split(metrics, MOST_METRICS):
            self._client.log_batch(self._run, metrics=part)

    def write_results(self, rows: Mapping[str, Mapping[str, float]]) -> None:
        self.write(0, {f"{network}/{name}": value for network, row in rows.items() for name, value in row.items()})

    def close(self) -> None:
        self._client.set_terminated(self._run)

    def _begin(self) -> str:
        """Makes the run with its parameters, and records it; returns its identifier."""
        from mlflow.entities import Param

        client, name = self._client, os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = client.get_experiment_by_name(name)
        where = experiment.experiment_id if experiment else client.create_experiment(name)
        run = client.create_run(where, run_name=self.workdir.name).info.run_id
        settings = flatten(read_config(self.workdir))
        params = [Param(f"{stage}/{path}", text[:LONGEST]) for (stage, path), text in settings.items()]
        for part in _split(params, MOST_PARAMETERS):
            client.log_batch(run, params=part)
        files.write_json(self.workdir / RECORD, read_record(self.workdir) | {"mlflow": run})
        return run


def _accept(name: str) -> str:
    """Returns a name that MLflow accepts: of other characters, which values of `data.route` may have, their numbers."""
    accepted = re.sub(r"[^/\w.\- :]", lambda match: f"-{ord(match[0]):x}-", name)
    return "/".join(part if part.strip(".") else f"-{part}-" for part in accepted.split("/"))


def _split(items: list[Any], count: int) -> Iterator[list[Any]]:
    for first in range(0, len(items), count):
        yield items[first : first + count]


def _import(path: str) -> Any:
    try:
        import mlflow
    except ImportError as error:
        raise UserError(
            f"{path} must have the library of each tracker, got 'mlflow' without it ({error}). pip install"
            " 'jaxdistill[mlflow]', or leave it out"
        ) from error
    return mlflow
