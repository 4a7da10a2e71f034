"""What a run found, as one page that needs nothing but itself: `python -m jaxdistill.report WORKDIR`.

The page is made only of what the run left in its workdir. `results.json` must be there; whatever else is
missing (a sheet of images, a reference, the evaluations of a stage) leaves a sentence that says so.
"""

import argparse
import base64
import json
import math
import pathlib
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from jaxdistill import plots
from jaxdistill.errors import UserError
from jaxdistill.page import PAGE, folded, grid, say
from jaxdistill.train.log import RESERVED

Rows = Sequence[Mapping[str, Any]]

TITLES = {"flops": "FLOPs"}
# --- The table as text -----------------------------------------------------------------------------------


def columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(["network", "parameters", "flops", *(name for row in rows for name in row)]))


def number(column: str, value: Any) -> str:
    """Writes 78042 parameters as `78,042`, 1.2e6 FLOPs as `1.2 M`, a share as `0.9722`, None as `-`."""
    if value is None:
        return "-"
    if column == "flops":
        for size, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
            if value >= 0.99995 * size:
                return f"{value / size:.1f}{prefix}"
    if isinstance(value, float) and not (column == "flops" and value.is_integer()):
        return f"{value:.4f}"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)


def cells(rows: Rows) -> list[list[str]]:
    """Returns the table's lines of text, the first its head."""
    names = columns(rows)
    head = [TITLES.get(name, name) for name in names]
    return [head, *([number(name, row.get(name)) for name in names] for row in rows)]


def table(rows: Rows) -> str:
    """Returns the rows as aligned plain text, for a terminal."""
    lines = cells(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pads = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    padded = ([pad(text, width) for pad, text, width in zip(pads, line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line) for line in padded)


def markdown(rows: Rows) -> str:
    """Returns the rows as a table of Markdown, for a README."""
    head, *body = [[text.replace("|", "\\|") for text in line] for line in cells(rows)]
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


# --- What the run left -----------------------------------------------------------------------------------


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


def of_networks(predictions: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """Returns `{network: array}` of the arrays named `kind/network`."""
    return {name.split("/", 1)[1]: held for name, held in predictions.items() if name.startswith(f"{kind}/")}


# --- Sections: each takes what was read and returns HTML -------------------------------------------------


def summary(rows: Rows, evaluation: Mapping[str, Any]) -> str:
    """Says in one sentence how much of the reference's accuracy the best student keeps, and at what size."""
    on = ""
    if "examples" in evaluation:
        on = f" on {evaluation['examples']:,} examples of the {evaluation.get('split', 'test')} split"
    rated = [row for row in rows if math.isfinite(row.get("accuracy") or math.nan)]
    reference = next((row for row in rated if row["network"] == evaluation.get("reference")), None)
    students = [row for row in rated if row is not reference]
    if not students:
        return f"No student's accuracy was measured{on}."
    best = max(students, key=lambda row: row["accuracy"])
    reached = f"{best['network']} reaches an accuracy of {best['accuracy']:.4f}{on}"
    if reference is None:
        return f"{reached}, the best of {len(rated)}."
    sizes = [
        f"{best[name] / reference[name]:.1%} of its {TITLES.get(name, name)}"
        for name in ("parameters", "flops")
        if best.get(name) and reference.get(name)
    ]
    share = best["accuracy"] / reference["accuracy"]
    kept = f"{share:.1%} of the {reference['accuracy']:.4f} of {reference['network']}"
    return f"{reached}: {kept}{', with ' if sizes else ''}{' and '.join(sizes)}."


def best_students(rows: Rows, reference: str | None) -> set[tuple[str, str]]:
    """Returns the `(network, column)` of the best students; none in a column where all are equal."""
    from jaxdistill.metrics import METRICS

    better = {"parameters": "min", "flops": "min"} | {name: metric.better for name, metric in METRICS.items()}
    students = [row for row in rows if row["network"] != reference]
    found = set()
    for column in columns(rows)[1:]:
        values = {row["network"]: row[column] for row in students if isinstance(row.get(column), int | float)}
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        if better.get(column) and len(set(values.values())) > 1:
            best = {"max": max, "min": min}[better[column]](values.values())
            found |= {(name, column) for name, value in values.items() if value == best}
    return found


def results(rows: Rows, reference: str | None) -> str:
    names, (head, *body) = columns(rows), cells(rows)
    best = best_students(rows, reference)

    def cell(row, name, text):
        if name == "network":
            role = ' <span class="role">reference</span>' if row["network"] == reference else ""
            return f'<th scope="row">{escape(text)}{role}</th>'
        kind = ' class="best"' if (row["network"], name) in best else ""
        return f"<td{kind}>{escape(text)}</td>"

    lines = "".join(
        f"<tr>{''.join(cell(row, name, text) for name, text in zip(names, line, strict=True))}</tr>\n"
        for row, line in zip(rows, body, strict=True)
    )
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    told = say("★ marks the best student of a column.") if best else ""
    none = "" if reference else say("This run names no reference network, so nothing is compared with one.")
    content = f"<table><thead><tr>{top}</tr></thead>\n<tbody>{lines}</tbody></table>"
    return f'<div class="wide">{content}</div>{told}{none}'


Stages = Mapping[str, Sequence[Mapping[str, Any]]]
Points = dict[str, tuple[list, list]]


def series(lines: Sequence[Mapping[str, Any]], shown: Callable[[str], str | None]) -> Points:
    """Gathers `{name: (steps, values)}` from lines; `shown(key)` names a key's curve, or is None."""
    points: Points = {}
    for line in lines:
        for key, value in line.items():
            if shown(key) is not None and isinstance(value, int | float):
                steps, values = points.setdefault(shown(key), ([], []))
                steps.append(line["step"])
                values.append(value)
    return points


def accuracy(key: str) -> str | None:
    return key.removesuffix("/accuracy") if key.endswith("/accuracy") else None


def watched(lines: Sequence[Mapping[str, Any]]) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """Returns the split that a stage was watched on (the first one named) and the lines of its evaluations."""
    split = next((line["split"] for line in lines if "split" in line), "validation")
    return split, [line for line in lines if line.get("split") == split]


def comparison(stages: Stages) -> str | None:
    """Draws the accuracy that every stage reached on the split it was watched on, if any was."""
    held, splits = {}, []
    for stage, lines in stages.items():
        split, evaluated = watched(lines)
        found = series(evaluated, accuracy)
        held |= {stage if len(found) == 1 else f"{stage}: {name}": points for name, points in found.items()}
        splits += [split] * len(found)
    if not held:
        return None
    what = f"{' and '.join(dict.fromkeys(splits))} accuracy"
    return plots.curves(held, f"{what} of every stage", y=what)


def training(stages: Stages) -> str:
    if not stages:
        return say("metrics.jsonl is missing or empty: there are no curves.")
    compared = comparison(stages)
    whole = f"<h3>every stage</h3>{grid([compared])}" if compared else ""
    return whole + "".join(f"<h3>{escape(name)}</h3>{stage_curves(name, lines)}" for name, lines in stages.items())


def stage_curves(stage: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns the figures of a stage: the loss and its terms, the learning rate, accuracy while it trained."""
    train = [line for line in lines if "split" not in line]
    split, evaluated = watched(lines)

    def loss(key):
        return key if key == "loss" or (key not in RESERVED and "/" not in key) else None

    wanted = {
        "loss": series(train, loss),
        "learning rate": series(train, {"rate": "learning rate"}.get),
        f"{split} accuracy": series(evaluated, accuracy),
    }
    figures = [plots.curves(held, f"{stage}: {what}", y=what, emphasis="loss") for what, held in wanted.items() if held]
    absent = [name for name, held in wanted.items() if not held]
    return grid(figures) + (say(f"This stage logged no {' and no '.join(absent)}.") if absent else "")


def confusions(evaluation: Mapping[str, Any]) -> str:
    held = evaluation.get("confusion")
    if not held:
        return say("evaluation.json has no confusion matrices.")
    figures = [
        plots.confusion(
            counts, evaluation.get("classes", range(len(counts))), network, f"Confusion matrix of {network}"
        )
        for network, counts in held.items()
    ]
    told = "A row per true class, a column per prediction. The colour is the share of the row, blue where right and "
    return say(told + "orange where wrong, on the same scale for all networks.") + grid(figures, "grid small")


def calibration(evaluation: Mapping[str, Any]) -> str:
    held = evaluation.get("reliability")
    if not held:
        return say("evaluation.json has no reliability diagrams.")
    figures = [plots.reliability(bins, network, f"Reliability diagram of {network}") for network, bins in held.items()]
    told = "Accuracy by confidence. Hatched is the gap to the bin's mean confidence; below are the examples per bin."
    return say(told) + grid(figures, "grid small")


def agreements(predictions: Mapping[str, np.ndarray]) -> str:
    held = of_networks(predictions, "prediction")
    if len(held) < 2 or not len(predictions["label"]):
        return say("There are no predictions of two networks to compare.")
    share = [[float(np.mean(one == other)) for other in held.values()] for one in held.values()]
    told = f"The share of {len(predictions['label']):,} examples for which two networks predict the same class."
    return say(told) + grid([plots.agreement(share, list(held), "Agreement of the networks")], "grid single")


def sheet(predictions: Mapping[str, np.ndarray], classes: Sequence[str]) -> str:
    """Returns the images on which not all networks agree, so that some student disagrees with the reference."""
    held = of_networks(predictions, "prediction")
    if len(held) < 2 or not len(predictions.get("sheet/index", ())):
        return say("There are no images to show: none was stored, or fewer than two networks were compared.")
    row_of = {int(index): row for row, index in enumerate(predictions["index"])}
    differ = np.ptp(np.stack(list(held.values())), axis=0) > 0
    pairs = zip(predictions["sheet/index"], predictions["sheet/image"], strict=True)
    cards = [
        card(row_of[int(index)], image, predictions, classes) for index, image in pairs if differ[row_of[int(index)]]
    ]
    if not cards:
        return say("On every stored image all networks agree.")
    told = f"{len(cards)} of the {differ.sum()} examples on which the networks disagree, with the prediction and the "
    return say(told + "confidence of each network: ✓ is right, ✗ is wrong.") + grid(cards, "sheet")


def card(row: int, image: np.ndarray, predictions: Mapping[str, np.ndarray], classes: Sequence[str]) -> str:
    """Returns one image, its label, and what each network says of it and how surely."""
    label, confidence = predictions["label"][row], of_networks(predictions, "confidence")

    def called(which):
        return str(classes[which] if which < len(classes) else which) if which >= 0 else "unlabelled"

    lines = ""
    for network, predicted in of_networks(predictions, "prediction").items():
        mark, word = ("✓", "right") if predicted[row] == label else ("✗", "wrong")
        if label < 0:
            mark, word = "·", "unlabelled"
        said = f'<span title="{word}">{mark}</span> {escape(called(predicted[row]))}'
        sure = f"{confidence[network][row]:.2f}" if network in confidence else ""
        lines += f'<tr class="{word}"><th scope="row">{escape(network)}</th><td>{said}</td><td>{sure}</td></tr>'
    data, index = base64.b64encode(plots.png(image)).decode(), predictions["index"][row]
    picture = f'<img src="data:image/png;base64,{data}" alt="example {index}"/>'
    told = f"true: {escape(called(label))} <span>#{index}</span>"
    return f"{picture}<figcaption>{told}</figcaption><table>{lines}</table>"


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
        summary=escape(summary(rows, evaluation)),
        results=results(rows, evaluation.get("reference")),
        training=training(stages),
        confusions=confusions(evaluation),
        calibration=calibration(evaluation),
        agreements=agreements(predictions),
        sheet=sheet(predictions, evaluation.get("classes", ())),
        config=folded("Config, as resolved", read_json(workdir / "config.json"), "config.json"),
        environment=folded("Environment", read_json(workdir / "environment.json"), "environment.json"),
    )
    path = workdir / "report.html"
    path.write_text(text, encoding="utf-8")
    if compared := comparison(stages):
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


if __name__ == "__main__":
    sys.exit(main())
