"""Runs in a program or a notebook: `jaxdistill.run` and the `Results` of a run."""

import dataclasses
import os
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxdistill.config import load as configs
from jaxdistill.config.doors import name_objects
from jaxdistill.errors import UserError, unknown
from jaxdistill.export.loaded import LoadedNetwork
from jaxdistill.pipeline import load as finished
from jaxdistill.pipeline import run as pipeline
from jaxdistill.report import lanes, write
from jaxdistill.report.tables import Table
from jaxdistill.runtime import background, files, mirror
from jaxdistill.runtime.preemption import StopSignal
from jaxdistill.runtime.workdir import is_run

_turn = threading.RLock()
"""Held by the run of this process: the settings of JAX and the hooks of the interpreter are those of one."""


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of a run.

        results["distilled"]["accuracy"]
        results.records             # a dict for each network
        results.to_pandas()
        results.load("distilled")   # a network that is called with raw images

    Attributes:
        workdir: the folder of the run.
        records: a row for each network, means if the run has several lanes; none if no stage evaluates.
        lanes: a row for each network and lane; none for a run without lanes.
    """

    workdir: pathlib.Path
    records: list[dict[str, Any]]
    lanes: list[dict[str, Any]]

    @classmethod
    def read(cls, workdir: str | os.PathLike[str]) -> "Results":
        """Reads the results of a run that has ended.

        Raises:
            UserError: for a folder that is no run, and files that are none of a run.
        """
        folder = files.input_path("workdir", os.fspath(workdir))
        if not is_run(folder):
            raise UserError(f"workdir must be the folder of a run, got {str(folder)!r}. Name another, or run it first")
        evaluated = (folder / "results.json").is_file()
        records = [dict(row) for row in write.read_results(folder)] if evaluated else []
        return cls(folder, records, [dict(row) for row in lanes.read(folder)])

    def __getitem__(self, network: str) -> dict[str, Any]:
        """Returns the row of a network.

        Raises:
            UserError: for an unknown name, with the nearest one.
        """
        by_name = {row["network"]: row for row in self.records}
        if network not in by_name:
            raise unknown("the network", network, by_name, "a network of the results")
        return by_name[network]

    def load(self, network: str) -> LoadedNetwork:
        """Loads a finished network with its preprocessing: `jaxdistill.load`."""
        return finished.load(self.workdir, network)

    def to_pandas(self) -> Any:
        """Returns the records as a `pandas.DataFrame`; those of lanes if there are any.

        Raises:
            UserError: without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise UserError(
                "to_pandas must have pandas, which is not installed. pip install 'jaxdistill[pandas]'"
            ) from error
        return pandas.DataFrame(self.lanes or self.records)

    def table(self) -> Table:
        """Returns the final table; of several lanes, means and spreads."""
        return write.read_summary(self.workdir)

    def advice(self) -> list[str]:
        """Returns sentences on what the numbers allow (`report.advice`); none if no stage evaluated."""
        return write.read_advice(self.workdir) if self.records else []

    def parts(self) -> Table | None:
        """Returns the table of the examples with each value of `data.route`; `None` for other data."""
        return write.read_parts(self.workdir) if self.records else None

    def __str__(self) -> str:
        if not self.records:
            return f"{self.workdir}: no stage evaluated"
        parts = self.parts()
        return self.table().to_text() + (f"\n\n{parts.to_text()}" if parts else "")

    def _repr_html_(self) -> str:
        return self.table().to_html() if self.records else f"<p>{self}</p>"


def run(
    config: str | os.PathLike[str] | Mapping[str, Any] | ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    log: Callable[[str], None] = print,
    stop: Callable[[], bool] | None = None,
    profile: int = 0,
) -> Results:
    """Runs a config to its end, writes the report, and returns the results; the same call resumes an interrupted run.

    It may be called from any thread, in notebooks, and several times in a process, in which runs take turns. On the
    main thread, Ctrl-C (the stop button of a notebook) and SIGTERM end it after its state is saved, by `Interrupted`;
    on other threads it sets no handler, and `stop` ends it.

    Args:
        config: nested mappings or a `ConfigDict`, in which classes and functions stand for their names; or a config
            file or name, such as `"digits/kd:smoke"`.
        workdir: where everything is written; a path, or a URL of an object store.
        log: prints a line.
        stop: called between steps; the run ends as by a signal once it returns True.
        profile: the number of early steps of every stage that trains to record.

    Raises:
        UserError: for a mistake in the config, the data or the workdir.
        TrainingFailed: for a loss that is not finite.
        Interrupted: after a signal, or `stop`.
    """
    raw = configs.read(os.fspath(config)) if isinstance(config, str | os.PathLike) else name_objects(config)
    with _turn, background.watch(), mirror.open_workdir("workdir", os.fspath(workdir), log) as place:
        signal = None if stop is None else StopSignal(lambda call: stop())
        pipeline.run(configs.stages_of_user(raw), place, log=log, profile=profile, finish=_finish, stop=signal)
    return Results.read(place)


def _finish(workdir: pathlib.Path) -> None:
    if (workdir / "results.json").exists():
        write.write_report(workdir)
