"""The sections of the report about each network by itself: each takes what was read and returns HTML."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from jaxdistill.report import figures as plots
from jaxdistill.report.html import grid, say, tabulated
from jaxdistill.report.tables import TITLES, Rows, cells, columns, number
from jaxdistill.train.metrics_log import RESERVED


def summary(rows: Rows, evaluation: Mapping[str, Any]) -> str:
    """Says in one sentence how much of the reference's accuracy the best student keeps, and at what size.

    Of language models, which are judged by likelihoods, it is how far from the reference's the best student's is.
    """
    on = ""
    if "examples" in evaluation:
        on = f" on {evaluation['examples']:,} examples of the {evaluation.get('split', 'test')} split"
    if evaluation.get("lanes"):
        on += f" in the mean of {evaluation['lanes']} lanes"
    of_tokens = evaluation.get("unit") == "token" and any(row.get("nll") for row in rows)
    measure, words = ("nll", "negative log-likelihood") if of_tokens else ("accuracy", "accuracy")
    rated = [row for row in rows if math.isfinite(row.get(measure) or math.nan)]
    reference = next((row for row in rated if row["network"] == evaluation.get("reference")), None)
    students = [row for row in rated if row is not reference]
    if not students:
        return f"No student's {words} was measured{on}."
    best = (min if of_tokens else max)(students, key=lambda row: row[measure])
    number = f"a {words} of {best[measure]:.4f} nats per token" if of_tokens else f"an {words} of {best[measure]:.4f}"
    reached = f"{best['network']} reaches {number}{on}"
    if reference is None:
        return f"{reached}, the best of {len(rated)}."
    sizes = [
        f"{best[name] / reference[name]:.1%} of its {TITLES.get(name, name)}"
        for name in ("parameters", "flops")
        if best.get(name) and reference.get(name)
    ]
    kept = f"{best[measure] / reference[measure]:.1%} of the {reference[measure]:.4f} of {reference['network']}"
    return f"{reached}: {kept}{', with ' if sizes else ''}{' and '.join(sizes)}."


def best_students(rows: Rows, reference: str | None) -> set[tuple[str, str]]:
    """Returns the `(network, column)` of the best students; none in a column where all are equal."""
    from jaxdistill.metrics import METRICS, TOKEN_METRICS

    known = {**TOKEN_METRICS, **METRICS}
    better = {"parameters": "min", "flops": "min"} | {name: metric.better for name, metric in known.items()}
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

    lines = [
        [cell(row, name, text) for name, text in zip(names, line, strict=True)]
        for row, line in zip(rows, body, strict=True)
    ]
    told = say("★ marks the best student of a column.") if best else ""
    none = "" if reference else say("This run names no reference network, so nothing is compared with one.")
    return f"{tabulated(head, lines)}{told}{none}"


NAMES = {"accuracy": "accuracy", "nll": "NLL (nats)"}
"""What the numbers that are drawn while a stage trains are called."""

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


def followed(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns the number that is drawn while a stage trains: the accuracy, or the NLL where that alone was measured."""
    measured = {key.rpartition("/")[2] for line in lines for key in line if "/" in key}
    return "nll" if "nll" in measured and "accuracy" not in measured else "accuracy"


def of_networks(measure: str) -> Callable[[str], str | None]:
    """Names the curve of a number `NETWORK/MEASURE` after its network; single lanes have a plot of their own."""
    own = re.compile(rf"(?!\d+/.*/)(.*)/{measure}")

    def named(key):
        found = own.fullmatch(key)
        return found and found[1]

    return named


def watched(lines: Sequence[Mapping[str, Any]]) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """Returns the split that a stage was watched on (the first one named) and the lines of its evaluations."""
    split = next((line["split"] for line in lines if "split" in line), "validation")
    return split, [line for line in lines if line.get("split") == split]


def comparison(stages: Stages) -> str | None:
    """Draws the accuracy, or NLL, that every stage reached on the split it was watched on, if any was."""
    held, splits = {}, []
    measure = followed([line for lines in stages.values() for line in lines])
    for stage, lines in stages.items():
        split, evaluated = watched(lines)
        found = series(evaluated, of_networks(measure))
        held |= {stage if len(found) == 1 else f"{stage}: {name}": points for name, points in found.items()}
        splits += [split] * len(found)
    if not held:
        return None
    what = f"{' and '.join(dict.fromkeys(splits))} {NAMES[measure]}"
    return plots.curves(held, f"{what} of every stage", y=what)


def training(stages: Stages) -> str:
    if not stages:
        return say("metrics.jsonl is missing or empty: there are no curves.")
    compared = comparison(stages)
    whole = f"<h3>every stage</h3>{grid([compared])}" if compared else ""
    return whole + "".join(f"<h3>{escape(name)}</h3>{stage_curves(name, lines)}" for name, lines in stages.items())


def stage_curves(stage: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns the figures of a stage: the loss and its terms, the learning rate, accuracy or NLL while it trained."""
    train = [line for line in lines if "split" not in line]
    split, evaluated = watched(lines)

    def loss(key):
        return key if key == "loss" or (key not in RESERVED and "/" not in key) else None

    wanted = {
        "loss": series(train, loss),
        "learning rate": series(train, {"rate": "learning rate"}.get),
        f"{split} {NAMES[followed(lines)]}": series(evaluated, of_networks(followed(lines))),
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


SCORES = ("precision", "recall", "f1")


def per_class(evaluation: Mapping[str, Any]) -> str:
    """Returns what `per_class` found: a figure of F1, where the classes are few enough, and a table of all."""
    held = evaluation.get("per_class")
    if not held:
        return say("evaluation.json has no scores per class; evaluate.metrics=('per_class', ...) measures them.")
    count = len(next(iter(held.values()))["examples"])
    classes = [str(name) for name in evaluation.get("classes", range(count))]
    figure = ""
    if count <= 40:
        f1 = {network: table["f1"] for network, table in held.items()}
        figure = grid([plots.by_class(f1, classes, "F1", "F1 of every class")], "grid single")
    lines = []
    for row, name in enumerate(classes):
        examples = f"<td>{next(iter(held.values()))['examples'][row]:,}</td>"
        scores = [f"<td>{number('', table[score][row])}</td>" for table in held.values() for score in SCORES]
        lines.append([f'<th scope="row">{escape(name)}</th>', examples, *scores])
    head = ["class", "examples", *(f"{network}: {score}" for network in held for score in SCORES)]
    whole = f"<details><summary>Precision, recall and F1 of every class</summary>{tabulated(head, lines)}</details>"
    return figure + whole


def calibration(evaluation: Mapping[str, Any]) -> str:
    held = evaluation.get("reliability")
    if not held:
        return say("evaluation.json has no reliability diagrams.")
    figures = [plots.reliability(bins, network, f"Reliability diagram of {network}") for network, bins in held.items()]
    told = "Accuracy by confidence. Hatched is the gap to the bin's mean confidence; below are the examples per bin."
    return say(told) + grid(figures, "grid small")
