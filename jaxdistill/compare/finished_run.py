"""A finished run, as its files describe it, and its members: the run itself, or each of its lanes."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdistill.config.flat import Settings, flatten, is_seed
from jaxdistill.config.load import show
from jaxdistill.errors import UserError
from jaxdistill.report import advice, lanes, write
from jaxdistill.report.quality import Stages
from jaxdistill.report.tables import Rows
from jaxdistill.runtime import files
from jaxdistill.runtime.workdir import CONFIG, ENVIRONMENT, is_run


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run that was evaluated.

    Attributes:
        name: as the command names it.
        workdir: its folder.
        config: as resolved.
        settings: the config as a flat mapping.
        stages: the lines of `metrics.jsonl`.
        evaluation: `evaluation.json`.
        rows: of `results.json`.
        lane_rows: of `lanes.json`; none for a run without lanes.
    """

    name: str
    workdir: pathlib.Path
    config: Mapping[str, Any]
    settings: Settings
    stages: Stages
    evaluation: Mapping[str, Any]
    rows: Rows
    lane_rows: Rows

    @functools.cached_property
    def _predictions(self) -> dict[str, Mapping[str, np.ndarray]]:
        return {}

    def predictions(self, evaluation: str) -> Mapping[str, np.ndarray]:
        """Returns the arrays of `predictions.npz`, of the first lane; none if it is missing.

        Args:
            evaluation: its stage; "" if the run has one evaluation.
        """
        if evaluation not in self._predictions:
            self._predictions[evaluation] = write.read_predictions(self.workdir / evaluation / "predictions.npz")
        return self._predictions[evaluation]

    @functools.cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Networks that are compared within the run: students and their controls, and those of the evaluation."""
        files_of_run = {"config": self.config, "evaluation": self.evaluation, "rows": self.rows, "stages": self.stages}
        controls = advice.find_pairs(advice.Finished(**files_of_run, predictions={}, seconds={}))
        named = [(row["network"], row["reference"]) for row in self.evaluation.get("pairs", ())]
        return list(dict.fromkeys([*(pair for pair in controls if all(pair)), *named]))

    @functools.cached_property
    def launch(self) -> Mapping[str, Any]:
        """The record of the last launch; empty if it is missing."""
        path = self.workdir / ENVIRONMENT
        launches = files.read_json(path, list) if path.is_file() else []
        return launches[-1] if launches and isinstance(launches[-1], dict) else {}

    def members(self) -> list["Member"]:
        """Returns the run as one member, or a member for each of its lanes."""
        plain = {key: value for key, value in self.settings.items() if key[1].partition(".")[0] != "sweep"}
        if not self.lane_rows:
            return [Member(self, None, plain, self.rows)]
        swept = lanes.settings_of_lanes(self.lane_rows, self.stages, self.config)
        return [
            Member(
                self,
                lane,
                _overlay(plain, settings),
                [row for row in self.lane_rows if row["lane"] in (lane, None)],
            )
            for lane, settings in enumerate(swept)
        ]


@dataclasses.dataclass(frozen=True)
class Member:
    """A run or one of its lanes.

    Attributes:
        run: the run.
        lane: its number, `None` for a run without lanes.
        settings: those of the config with those of the lane, without the sweep.
        rows: its results; a network that all lanes share has the same row in each.
    """

    run: FinishedRun
    lane: int | None
    settings: Settings
    rows: Rows

    @functools.cached_property
    def seed(self) -> str:
        """The seeds of its stages."""
        seeds = [value for (_, path), value in self.settings.items() if path == "seed"]
        return ", ".join(dict.fromkeys(seeds))

    @functools.cached_property
    def setting(self) -> frozenset[tuple[tuple[str, str], str]]:
        """All settings but the seeds, equal for repetitions of one experiment."""
        return frozenset((key, value) for key, value in self.settings.items() if not is_seed(key[1]))

    @property
    def prefix(self) -> str:
        """The start of its keys in `metrics.jsonl`."""
        return "" if self.lane is None else f"{self.lane}/"


def _overlay(settings: Settings, swept: Mapping[str, Any]) -> Settings:
    """Returns the settings of a lane, whose swept values replace those of every stage that has them."""
    result = dict(settings)
    for key, text in settings.items():
        if key[1] in swept:
            value = swept[key[1]]
            is_float = "." in text and isinstance(value, int)  # a swept 2 is the 2.0 of a config
            result[key] = show(float(value) if is_float else value)
    return result


def read_run(text: str) -> FinishedRun:
    """Reads a finished run.

    Args:
        text: its folder.

    Raises:
        UserError: for a folder that is no run, and a run that has no results.
    """
    folder = files.input_path("RUN", text)
    if not folder.is_dir() or not is_run(folder):
        raise UserError(f"RUN must be the folder of a run, got {text!r}, which has no {CONFIG} of one. Name another")
    config = files.read_json(folder / CONFIG, dict)
    if not (folder / "results.json").is_file():
        kinds = [stage.get("kind", "train") for stage in config["stages"].values() if isinstance(stage, dict)]
        state, fix = ("unfinished", "Give its command again, and it goes on")
        if "evaluate" not in kinds:
            state, fix = ("never evaluated", "Add a stage of kind='evaluate' to its config, and run it again")
        raise UserError(f"RUN must be an evaluated run, got {text!r}, which is {state}: it has no results.json. {fix}")
    return FinishedRun(
        text.rstrip("/"),
        folder,
        config=config,
        settings=flatten(config),
        stages=write.read_lines(folder / "metrics.jsonl"),
        evaluation=write.read_optional(folder / "evaluation.json", dict) or {},
        rows=write.read_results(folder),
        lane_rows=lanes.read(folder),
    )


def read_runs(texts: list[str]) -> list[FinishedRun]:
    """Reads the runs of a comparison.

    Raises:
        UserError: for a run that is named twice, and runs of different tasks or splits.
    """
    places: dict[pathlib.Path, str] = {}
    for text in texts:
        place = files.input_path("RUN", text).resolve()
        if place in places:
            raise UserError(f"RUN must be named once, got {places[place]!r} and {text!r}, the same run. Leave one out")
        places[place] = text
    runs = [read_run(text) for text in texts]
    for run in runs[1:]:
        _check_task(runs[0], run)
    if len(runs) < 2 and len(runs[0].members()) < 2:
        raise UserError(f"there must be at least two runs, got {texts}. Name another one, or a run in lanes")
    return runs


def _check_task(first: FinishedRun, second: FinishedRun) -> None:
    for what, left, right in (
        ("predictions", *(run.evaluation.get("unit") for run in (first, second))),
        ("classes", *(_describe_classes(run) for run in (first, second))),
        ("examples", *(_describe_examples(run) for run in (first, second))),
        ("metrics", *(_metrics(run) for run in (first, second))),
    ):
        if left != right and not (what == "metrics" and {*left} & {*right}):
            raise UserError(
                f"RUN must be of the task of {first.name!r}, got {second.name!r}, whose {what} are {right} and not"
                f" {left}. Compare runs that were evaluated on the same"
            )


def _describe_classes(run: FinishedRun) -> str:
    classes = [str(name) for name in run.evaluation.get("classes") or ()]
    shown = ", ".join([*classes[:3], "..."] if len(classes) > 3 else classes)
    return f"{len(classes)} ({shown}) {files.digest(chr(0).join(classes).encode())[:4]}" if classes else "none"


def _describe_examples(run: FinishedRun) -> str:
    return f"{run.evaluation.get('examples')} of the {run.evaluation.get('split')} split"


def _metrics(run: FinishedRun) -> list[str]:
    better = run.evaluation.get("better", {})
    return sorted({name for row in run.rows for name in row if name in better})
