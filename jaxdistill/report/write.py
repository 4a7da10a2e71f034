"""The report of a run as one page without outside resources: `python -m jaxdistill.report WORKDIR`.

The page is made of the files that the run left in its workdir. `results.json` must exist; for any other missing
part (images, a reference, the evaluations of a stage) the page has a note, those of whole sections at its end.
"""

import argparse
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdistill.errors import UserError
from jaxdistill.report import advice, boxes, cost, fidelity, label_maps, labels, lanes, quality, texts
from jaxdistill.report.html import Block, Heading, Note, Section, Sentence, fold_json, render_page
from jaxdistill.report.inputs import evaluate_again, read_optional
from jaxdistill.report.tables import Rows, Table, make_parts_table, make_results_table, select_main
from jaxdistill.runtime import files

SCORES = {
    "confusion": ("Confusion matrices", quality.confusions),
    "classes": ("Classes", quality.class_scores),
    "iou": ("Classes", label_maps.class_scores),
    "precision": ("Classes", boxes.class_scores),
    "labels": ("Labels", labels.label_scores),
    "targets": ("Targets", labels.target_scores),
    "calibration": ("Calibration", quality.calibration),
}
FIGURES = {
    "disagreements": ("Where the networks disagree", fidelity.disagreements),
    "label_maps": ("Segmentations", label_maps.segmentations),
    "boxes": ("Detections", boxes.detections),
    "texts": ("Texts", texts.written),
}
"""Sections that only some tasks have, by the name in `Task.figures`: of scores, and of examples."""


def read_results(workdir: pathlib.Path) -> Rows:
    """Reads the rows of `results.json`.

    Raises:
        UserError: if it is missing, or not a list of rows with a network each.
    """
    path = workdir / "results.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; the report needs the workdir of a run that was evaluated")
    rows = read_optional(path)
    named = isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("network"), str) for row in rows
    )
    if not named:
        raise UserError(f"{path} must be a list of rows with a network each. {evaluate_again(path)}")
    return rows


def read_lines(path: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """Reads `metrics.jsonl` by stage, in order of step.

    A resumed run repeats the steps after its last checkpoint: of two lines about the same step the later counts.

    Raises:
        UserError: if a line is not one of metrics.
    """
    stages: dict[str, dict] = {}
    for entry in files.read_metrics(path):
        stages.setdefault(entry["stage"], {})[entry["step"], str(entry.get("split", ""))] = entry
    return {stage: [lines[key] for key in sorted(lines, key=lambda key: key[0])] for stage, lines in stages.items()}


def read_predictions(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads `predictions.npz`; {} if it is missing.

    Raises:
        UserError: if it is not one that an evaluation wrote.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            predictions = {name: archive[name] for name in dict.fromkeys(["index", *archive.files])}
        if not np.isin(predictions.get("sheet/index", []), predictions["index"]).all():
            raise ValueError("sheet/index is not part of index")
        return _add_scores(predictions)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} must hold predictions, and cannot be read ({error}). {evaluate_again(path)}") from None


def _add_scores(predictions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays with the scores by accuracy, which earlier versions did not store."""
    scores = {
        f"score/accuracy/{name}": np.where(predictions["label"] < 0, np.nan, classes == predictions["label"])
        for name, classes in fidelity.select_arrays(predictions, "prediction").items()
    }
    return scores | predictions


def read_summary(workdir: pathlib.Path) -> Table:
    """Returns the final table of a run, for a terminal; of a run in lanes, means and spreads."""
    return make_results_table(_summarize_rows(workdir))


def read_parts(workdir: pathlib.Path) -> Table | None:
    """Returns the table of the parts by `data.route`, as `read_summary` does that of all; `None` for other data."""
    route = (read_optional(workdir / "evaluation.json", dict) or {}).get("route") or {}
    return make_parts_table(_summarize_rows(workdir), route.get("column", "route"), route.get("examples"))


def _summarize_rows(workdir: pathlib.Path) -> Rows:
    rows = lanes.read(workdir)
    if not rows:
        return read_results(workdir)
    config, lines = read_optional(workdir / "config.json", dict), read_lines(workdir / "metrics.jsonl")
    names = dict.fromkeys(row.get("evaluation") for row in rows)
    parts = [[row for row in rows if row.get("evaluation") == name] for name in names]
    return [row for part in parts for row in lanes.summarize(part, lines, config)]


def read_advice(workdir: pathlib.Path) -> list[str]:
    """Returns the sentences on a finished run, for a terminal (`report.advice`)."""
    lines, predictions = read_lines(workdir / "metrics.jsonl"), read_predictions(workdir / "predictions.npz")
    return advice.advise(advice.read(workdir, read_results(workdir), lines, predictions))


def _list_evaluations(rows: Rows) -> list[Block]:
    """Returns the results of all evaluations of a run; none if there is one."""
    count = len({row.get("evaluation") for row in rows})
    note = Note("This page is of the last of them; each has its files in the folder of its stage.")
    return [Heading("every evaluation"), make_results_table(rows), note] if count > 1 else []


def _gather_notes(sections: Sequence[Section]) -> list[Section]:
    """Returns the sections that show something, and one with the notes of those that only have a note."""
    empty = [section for section in sections if all(isinstance(block, Note) for block in section.blocks)]
    notes = [block for section in empty for block in section.blocks]
    return [*(section for section in sections if section not in empty), Section("Not in this run", notes)]


def write_report(workdir: pathlib.Path) -> pathlib.Path:
    """Writes `report.html`, and two of its figures as `accuracy.svg` and `pareto.svg`, from the files of a workdir.

    Raises:
        UserError: if the folder is not the workdir of an evaluated run, or a file is not one of a run.
    """
    workdir = pathlib.Path(workdir)
    every = read_results(workdir)
    rows = select_main(every)
    evaluation = read_optional(workdir / "evaluation.json", dict) or {}
    predictions = read_predictions(workdir / "predictions.npz")
    stages = read_lines(workdir / "metrics.jsonl")
    config = read_optional(workdir / "config.json", dict)
    environment = read_optional(workdir / "environment.json")
    drawn = evaluation.get("figures", ())
    sentences = advice.advise(advice.read(workdir, every, stages, predictions))
    pareto = cost.draw(rows, evaluation)
    final = quality.choose_final(rows, evaluation)
    sections = [
        Section("Conclusions", [Sentence(sentence) for sentence in sentences]),
        Section("Results", [*quality.results(rows, evaluation), *_list_evaluations(every)]),
        Section("Cost", cost.describe(rows, evaluation, pareto)),
        Section("Lanes", lanes.compare(select_main(lanes.read(workdir)), stages, config, evaluation)),
        Section("Training", quality.training(stages, final)),
        *(Section(title, write(evaluation)) for name, (title, write) in SCORES.items() if name in drawn),
        Section("Agreement", fidelity.agreements(predictions)),
        Section("Fidelity", fidelity.fidelity(evaluation)),
        *(Section(title, write(predictions, evaluation)) for name, (title, write) in FIGURES.items() if name in drawn),
    ]
    origin = [
        fold_json("Config, as resolved", config, "config.json"),
        fold_json("Environment", environment, "environment.json"),
    ]
    sections = [*_gather_notes(sections), Section("How this was made", origin)]
    path = workdir / "report.html"
    files.write_text(path, render_page(workdir.resolve().name, quality.summarize(rows, evaluation), sections))
    if compared := quality.compare_stages(stages, final):
        files.write_text(workdir / "accuracy.svg", compared + "\n")
    if pareto:
        files.write_text(workdir / "pareto.svg", pareto + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report of the workdir that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jaxdistill.report", description="Writes WORKDIR/report.html.")
    parser.add_argument("workdir", type=pathlib.Path, metavar="WORKDIR")
    try:
        print(write_report(parser.parse_args(arguments).workdir))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
