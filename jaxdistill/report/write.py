"""What a run found, as one page that needs nothing but itself: `python -m jaxdistill.report WORKDIR`.

The page is made only of what the run left in its workdir. `results.json` must be there; whatever else is
missing (a sheet of images, a reference, the evaluations of a stage) leaves a sentence that says so.
"""

import argparse
import json
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from jaxdistill.errors import UserError
from jaxdistill.report import fidelity, quality
from jaxdistill.report import lanes as lane_sections
from jaxdistill.report.html import PAGE, folded
from jaxdistill.report.tables import Rows


def read_json(path: pathlib.Path) -> Any:
    """Returns what the file holds, None if there is none, or raises `UserError` if it is not JSON."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); run the evaluation again to write it anew") from None


def read_evaluation(path: pathlib.Path) -> dict[str, Any]:
    evaluation = read_json(path) or {}
    if not isinstance(evaluation, dict):
        raise UserError(f"{path} is not what an evaluation writes; run the evaluation again")
    return evaluation


def read_results(workdir: pathlib.Path) -> Rows:
    path = workdir / "results.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; the report needs the workdir of a run that was evaluated")
    rows = read_json(path)
    named = isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("network"), str) for row in rows
    )
    if not named:
        raise UserError(f"{path} is not a list of rows with a network each; is this a workdir of jaxdistill?")
    return rows


def read_lanes(workdir: pathlib.Path) -> Rows:
    """The rows of an evaluation in lanes, a row for each network and lane; none where there are no lanes."""
    rows = read_json(workdir / "lanes.json") or []
    keys = {"network", "lane"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and keys <= row.keys() for row in rows):
        raise UserError(f"{workdir / 'lanes.json'} is not what an evaluation writes; run the evaluation again")
    return rows


def lanes(workdir: pathlib.Path) -> Rows:
    """The table of an evaluation in lanes for a terminal, means and spreads; none where there are no lanes."""
    rows, config = read_lanes(workdir), read_json(workdir / "config.json")
    return lane_sections.terminal(rows, read_lines(workdir / "metrics.jsonl"), config) if rows else []


def read_lines(path: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the lines of metrics.jsonl by stage, in order of step.

    A resumed run repeats the steps after its last checkpoint: of two lines about the same the later counts. A
    last line without its end is what a killed run leaves, and is passed over.
    """
    stages: dict[str, dict] = {}
    if not path.is_file():
        return {}
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    for place, line in enumerate(whole, 1):
        try:
            entry = json.loads(line)
            stages.setdefault(str(entry["stage"]), {})[entry["step"], entry.get("split", "")] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}, line {place}: not a line of metrics ({error!r})") from None
    return {stage: [lines[key] for key in sorted(lines, key=lambda key: key[0])] for stage, lines in stages.items()}


def read_predictions(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as held:
            predictions = {name: held[name] for name in dict.fromkeys(["label", "index", *held.files])}
        if not np.isin(predictions.get("sheet/index", []), predictions["index"]).all():
            raise ValueError("sheet/index is not part of index")
        return predictions
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} does not hold predictions ({error}); run the evaluation again") from None


def write(workdir: pathlib.Path) -> pathlib.Path:
    """Writes `workdir/report.html`, and its first figure as `accuracy.svg`, from the other files of the workdir.

    Raises `UserError` where the folder is not the workdir of an evaluated run, or a file is not what it should be.
    """
    workdir = pathlib.Path(workdir)
    rows = read_results(workdir)
    evaluation = read_evaluation(workdir / "evaluation.json")
    predictions = read_predictions(workdir / "predictions.npz")
    stages = read_lines(workdir / "metrics.jsonl")
    text = PAGE.substitute(
        title=escape(workdir.resolve().name),
        summary=escape(quality.summary(rows, evaluation)),
        results=quality.results(rows, evaluation.get("reference")),
        lanes=lane_sections.lanes(read_lanes(workdir), stages, read_json(workdir / "config.json")),
        training=quality.training(stages),
        confusions=quality.confusions(evaluation),
        classes=quality.per_class(evaluation),
        calibration=quality.calibration(evaluation),
        agreements=fidelity.agreements(predictions),
        fidelity=fidelity.fidelity(evaluation),
        sheet=fidelity.sheet(predictions, evaluation),
        config=folded("Config, as resolved", read_json(workdir / "config.json"), "config.json"),
        environment=folded("Environment", read_json(workdir / "environment.json"), "environment.json"),
    )
    path = workdir / "report.html"
    path.write_text(text, encoding="utf-8")
    if compared := quality.comparison(stages):
        (workdir / "accuracy.svg").write_text(compared + "\n", encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jaxdistill.report", description="Writes WORKDIR/report.html.")
    parser.add_argument("workdir", type=pathlib.Path, metavar="WORKDIR")
    try:
        print(write(parser.parse_args(arguments).workdir))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
