"""Sections of the report about each network on its own: results, training curves, classes, calibration."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdistill.report import figures
from jaxdistill.report.html import Block, Details, Figures, Heading, Note
from jaxdistill.report.tables import (
    COSTS,
    Cell,
    Rows,
    Table,
    format_value,
    list_main_columns,
    make_parts_table,
    make_results_table,
)
from jaxdistill.train.metrics_log import RESERVED

Lines = Sequence[Mapping[str, Any]]
"""Lines of `metrics.jsonl` of one stage, in order of step."""

Stages = Mapping[str, Lines]
Points = dict[str, tuple[list[float], list[float]]]
"""Curves, `{name: (steps, values)}`."""

Better = Mapping[str, str]
"""The better end of each metric that has one, "max" or "min"."""

MEASURES = {
    "accuracy": "accuracy",
    "nll": "NLL (nats)",
    "rmse": "RMSE",
    "mean_iou": "mean IoU",
    "map": "mAP of boxes",
    "average_precision": "mean average precision",
    "subset_accuracy": "subset accuracy",
    "label_accuracy": "label accuracy",
    "binary_nll": "NLL of labels (nats)",
    "mae": "MAE",
    "gaussian_nll": "NLL of numbers (nats)",
    "pinball": "pinball loss",
}
"""Titles of the metrics that are drawn while a stage trains."""

FIRST = ("mean_iou", "map", "average_precision", "subset_accuracy", "label_accuracy")
"""Metrics of pixels, boxes and several labels, which come before accuracy."""

MAXIMISED = ("accuracy", *FIRST)
"""Those of `MEASURES` that are better if they are larger."""

SCORES = ("precision", "recall", "f1")

MANY_CLASSES = 40
"""The largest number of classes whose F1 is drawn."""


def summarize(rows: Rows, evaluation: Mapping[str, Any]) -> str:
    """Writes one sentence: the fraction of the reference's accuracy that the best student keeps, and its size.

    Language models are compared by their negative log-likelihood instead, regressions by their RMSE: by how much, since
    a fraction of a loss that is not 0 at the best is no measure.
    """
    setting = _describe_setting(evaluation)
    measure = choose_final(rows, evaluation)
    title = {"nll": "negative log-likelihood"}.get(measure, MEASURES[measure])
    unit = " nats per token" if measure == "nll" else ""
    rated = [row for row in rows if row.get(measure) is not None and math.isfinite(row[measure])]
    reference = next((row for row in rated if row["network"] == evaluation.get("reference")), None)
    students = [row for row in rated if row is not reference]
    if not students:
        return f"No student's {title} was measured{setting}."
    best = (max if measure in MAXIMISED else min)(students, key=lambda row: row[measure])
    article = "a" if measure in ("nll", "pinball", *FIRST) else "an"
    reached = f"{best['network']} reaches {article} {title} of {best[measure]:.4f}{unit}{setting}"
    if reference is None:
        return f"{reached}, the best of {len(rated)}."
    sizes = [
        f"{best[name] / reference[name]:.1%} of its {title}"
        for name, title in (("parameters", "parameters"), ("flops", "arithmetic"))
        if best.get(name) and reference.get(name)
    ]
    compared = f"{_compare(best[measure], reference[measure], measure)} of {reference['network']}"
    return f"{reached}: {compared}{', with ' if sizes else ''}{' and '.join(sizes)}."


def _compare(value: float, reference: float, measure: str) -> str:
    """Writes a metric of a student beside that of its reference."""
    if measure in MAXIMISED:
        return f"{value / reference:.1%} of the {reference:.4f}" if reference else f"above the {reference:.4f}"
    difference, side = abs(value - reference), "above" if value > reference else "below"
    if measure == "nll":
        change, more = math.expm1(difference), "higher" if value > reference else "lower"
        change = change if value > reference else -math.expm1(-difference)
        return f"{difference:.4f} {side} the {reference:.4f}, a perplexity {change:.1%} {more} than that"
    return f"{difference / reference:.1%} {side} the {reference:.4f}" if reference else f"above the {reference:.4f}"


def choose_final(rows: Rows, evaluation: Mapping[str, Any]) -> str:
    """Returns the metric that networks are compared by: accuracy, of tokens NLL, of pixels IoU, of numbers RMSE.

    Where that was not measured it is the first of `MEASURES` that was, but not the NLL of classes.
    """
    if evaluation.get("unit") == "token" and any(row.get("nll") for row in rows):
        return "nll"
    names = [*FIRST, "rmse", *(name for name in MEASURES if name != "nll")]
    return next((name for name in names if any(row.get(name) is not None for row in rows)), "accuracy")


def _describe_setting(evaluation: Mapping[str, Any]) -> str:
    setting = ""
    if "examples" in evaluation:
        setting = f" on {evaluation['examples']:,} examples of the {evaluation.get('split', 'test')} split"
    if evaluation.get("lanes"):
        setting += f" in the mean of {evaluation['lanes']} lanes"
    return setting


def find_best_students(rows: Rows, reference: str | None, better: Better) -> set[tuple[str, str]]:
    """Returns the `(network, column)` of the best students; none in a column of equal values."""
    better = dict.fromkeys(COSTS, "min") | {"throughput": "max"} | dict(better)
    students = [row for row in rows if row["network"] != reference]
    best_students = set()
    for column in list_main_columns(rows)[1:]:
        values = {row["network"]: row[column] for row in students if isinstance(row.get(column), int | float)}
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        if column in better and len(set(values.values())) > 1:
            best = {"max": max, "min": min}[better[column]](values.values())
            best_students |= {(name, column) for name, value in values.items() if value == best}
    return best_students


def results(rows: Rows, evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the final table, with the reference labelled and the best student of each column marked."""
    reference, names, table = evaluation.get("reference"), list_main_columns(rows), make_results_table(rows)
    best = find_best_students(rows, reference, evaluation.get("better", {}))

    def mark(row: Mapping[str, Any], name: str, text: str) -> Cell:
        label = "reference" if name == "network" and row["network"] == reference else ""
        return Cell(text, best=(row["network"], name) in best, label=label)

    body = [
        [mark(row, name, text) for name, text in zip(names, cells, strict=True)]
        for row, cells in zip(rows, table.rows, strict=True)
    ]
    blocks: list[Block] = [Table(table.columns, body)]
    if best:
        blocks.append(Note("★ marks the best student of a column."))
    if not reference:
        blocks.append(Note("This run names no reference network, so nothing is compared with one."))
    return [*blocks, *_list_parts(rows, evaluation)]


def _list_parts(rows: Rows, evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the results of each part by `data.route`; none for other data."""
    route = evaluation.get("route") or {}
    column = route.get("column", "route")
    table = make_parts_table(rows, column, route.get("examples"))
    note = "The same metrics of the examples that have a value of this column; those that compare with a reference too."
    return [Heading(f"by {column}"), table, Note(note)] if table else []


def gather_points(lines: Lines, name_curve: Callable[[str], str | None]) -> Points:
    """Gathers curves from lines; `name_curve` returns the curve of a key, or None for a key without one."""
    points: Points = {}
    for line in lines:
        for key, value in line.items():
            curve = name_curve(key)
            if curve is not None and isinstance(value, int | float):
                steps, values = points.setdefault(curve, ([], []))
                steps.append(line["step"])
                values.append(value)
    return points


def choose_measure(lines: Lines, final: str = "") -> str:
    """Returns the metric that is drawn while a stage trains: `final`, that of the final table, if it was measured.

    Otherwise it is accuracy, NLL of tokens or where it alone is, or RMSE.
    """
    measured = {key.rpartition("/")[2] for line in lines for key in line if "/" in key}
    if final in measured:
        return final
    if first := [measure for measure in FIRST if measure in measured]:
        return first[0]
    if "rmse" in measured:
        return "rmse"
    of_tokens = "perplexity" in measured or "accuracy" not in measured
    return "nll" if "nll" in measured and of_tokens else "accuracy"


def name_by_network(measure: str) -> Callable[[str], str | None]:
    """Returns a `name_curve` for the keys `NETWORK/MEASURE`; single lanes have figures of their own."""
    pattern = re.compile(rf"(?!\d+/.*/)(.*)/{measure}")

    def name_curve(key: str) -> str | None:
        match = pattern.fullmatch(key)
        return match and match[1]

    return name_curve


def select_evaluations(lines: Lines) -> tuple[str, Lines]:
    """Returns the split that a stage was evaluated on first, and the lines of that split."""
    split = next((line["split"] for line in lines if "split" in line), "validation")
    return split, [line for line in lines if line.get("split") == split]


def compare_stages(stages: Stages, final: str = "") -> str | None:
    """Draws the accuracy, NLL or RMSE of every stage while it trained; None if nothing was evaluated."""
    curves: Points = {}
    splits = []
    measure = choose_measure([line for lines in stages.values() for line in lines], final)
    for stage, lines in stages.items():
        split, evaluated = select_evaluations(lines)
        points = gather_points(evaluated, name_by_network(measure))
        curves |= {stage if len(points) == 1 else f"{stage}: {name}": curve for name, curve in points.items()}
        splits += [split] * len(points)
    if not curves:
        return None
    title = f"{' and '.join(dict.fromkeys(splits))} {MEASURES[measure]}"
    return figures.draw_curves(curves, f"{title} of every stage", y=title)


def training(stages: Stages, final: str = "") -> list[Block]:
    """Returns the curves of all stages together, then those of each; `final` is the metric of the final table."""
    if not stages:
        return [Note("metrics.jsonl is missing or empty: there are no curves.")]
    compared = compare_stages(stages, final)
    # Points of single evaluations are no curves.
    has_curves = any(len(select_evaluations(lines)[1]) > 1 for lines in stages.values())
    blocks: list[Block] = [Heading("every stage"), Figures([compared])] if compared and has_curves else []
    for name, lines in stages.items():
        blocks += [Heading(name), *_stage_curves(name, lines, final)]
    return blocks


def _stage_curves(stage: str, lines: Lines, final: str) -> list[Block]:
    """Returns the figures of a stage: the loss and its terms, the learning rate, and accuracy, NLL or RMSE."""
    train = [line for line in lines if "split" not in line]
    split, evaluated = select_evaluations(lines)
    measure = choose_measure(lines, final)

    def name_loss(key: str) -> str | None:
        return key if key == "loss" or (key not in RESERVED and "/" not in key) else None

    curves = {
        "loss": gather_points(train, name_loss),
        "learning rate": gather_points(train, {"rate": "learning rate"}.get),
        f"{split} {MEASURES[measure]}": gather_points(evaluated, name_by_network(measure)),
    }
    notes: list[Block] = []
    drawn = []
    for title, points in curves.items():
        if any(len(steps) > 1 for steps, _ in points.values()):
            drawn.append(figures.draw_curves(points, f"{stage}: {title}", y=title, emphasis="loss"))
        elif points:
            numbers = ", ".join(
                f"{name} {format_value(float(values[0]), title)}" for name, (_, values) in points.items()
            )
            notes.append(Note(f"{title} at step {next(iter(points.values()))[0][0]:,}: {numbers}."))
    absent = [title for title, points in curves.items() if not points]
    notes += [Note(f"This stage logged no {' and no '.join(absent)}.")] if absent else []
    return [*([Figures(drawn)] if drawn else []), *notes]


def confusions(evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the confusion matrix of each network."""
    matrices = evaluation.get("confusion")
    if not matrices:
        return [Note("evaluation.json has no confusion matrices.")]
    drawn = [
        figures.draw_confusion(
            counts, evaluation.get("classes", range(len(counts))), network, f"Confusion matrix of {network}"
        )
        for network, counts in matrices.items()
    ]
    text = "A row per true class, a column per prediction. The colour is the fraction of the row, blue where right and "
    return [Note(text + "orange where wrong, on the same scale for all networks."), Figures(drawn, "small")]


def class_scores(evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns F1 of every class as a figure, unless there are many, and all scores as a table."""
    scores = evaluation.get("per_class")
    if not scores:
        return [Note("evaluation.json has no scores per class; evaluate.metrics=('per_class', ...) measures them.")]
    examples = next(iter(scores.values()))["examples"]
    classes = [str(name) for name in evaluation.get("classes", range(len(examples)))]
    blocks: list[Block] = []
    if len(classes) <= MANY_CLASSES:
        f1 = {network: values["f1"] for network, values in scores.items()}
        blocks.append(Figures([figures.draw_class_scores(f1, classes, "F1", "F1 of every class")], "single"))
    body = [
        [name, f"{examples[row]:,}"]
        + [format_value(values[score][row]) for values in scores.values() for score in SCORES]
        for row, name in enumerate(classes)
    ]
    columns = ["class", "examples", *(f"{network}: {score}" for network in scores for score in SCORES)]
    return [*blocks, Details("Precision, recall and F1 of every class", Table(columns, body))]


def calibration(evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the reliability diagram of each network."""
    bins = evaluation.get("reliability")
    if not bins:
        return [Note("evaluation.json has no reliability diagrams.")]
    drawn = [
        figures.draw_reliability(of_network, network, f"Reliability diagram of {network}")
        for network, of_network in bins.items()
    ]
    text = "Accuracy by confidence. Hatched is the gap to the bin's mean confidence; below are the examples per bin."
    return [Note(text), Figures(drawn, "small")]
