"""A tracker: the metrics of one stage in another program's form, beside `metrics.jsonl`."""

import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from jaxdistill.runtime import files

RECORD = "trackers.json"
"""The runs of other programs that a workdir belongs to, by tracker."""


class Tracker:
    """Writes the metrics of one stage; of several processes, the first has it.

    Args:
        workdir: of the run.
        stage: its name.
        start: the step that the stage starts after; what was written of later ones is written again.

    Raises:
        UserError: if the program refuses the run.
    """

    def __init__(self, workdir: pathlib.Path, stage: str, start: int):
        self.workdir, self.stage, self.start = workdir, stage, start

    @classmethod
    def check(cls, path: str) -> None:
        """Raises `UserError` unless what it needs is installed.

        Args:
            path: the key of the config, for the message.
        """

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the numbers of a step."""
        raise NotImplementedError(f"{type(self).__name__} must implement write")

    def write_results(self, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Adds the numbers of a final evaluation, by network and metric."""

    def close(self) -> None:
        """Ends the writing of the stage."""


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the resolved config of a run; {} if it has none."""
    path = workdir / "config.json"
    return files.read_json(path, dict) if path.is_file() else {}


def read_record(workdir: pathlib.Path) -> dict[str, str]:
    """Returns the identifiers of a workdir's runs in other programs, by tracker."""
    path = workdir / RECORD
    return files.read_json(path, dict, "Remove it, and trackers begin new runs.") if path.is_file() else {}


def find_identifier(workdir: pathlib.Path, tracker: str) -> str:
    """Returns the identifier of a workdir's run in a program, the same for every stage and launch; new at first."""
    record = read_record(workdir)
    if tracker not in record:
        record[tracker] = secrets.token_hex(4)
        files.write_json(workdir / RECORD, record)
    return record[tracker]
