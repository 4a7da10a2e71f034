"""Sections of the report about several labels of an example, and about numbers that are predicted."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxdistill.report import figures
from jaxdistill.report.html import Block, Details, Figures, Note
from jaxdistill.report.tables import Table, format_value

LABEL_SCORES = {
    "average_precision": "average precision",
    "auroc": "AUROC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}
TARGET_SCORES = {"rmse": "RMSE", "mae": "MAE", "r2": "R2"}
"""Titles of the columns of a table, by the names of the scores."""

MANY = 40
"""The largest number of labels whose average precision is drawn."""


def label_scores(evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the average precision of every label as a figure, unless there are many, and all scores as a table."""
    scores = evaluation.get("per_label")
    if not scores:
        return [Note("evaluation.json has no scores of labels; evaluate.metrics=('per_label', ...) measures them.")]
    names = [str(name) for name in evaluation["classes"]]
    table = Details("Scores of every label", _list_scores("label", names, scores, LABEL_SCORES))
    if len(names) > MANY:
        return [table]
    # A label that no example has has no average precision.
    precision = {network: [x or 0.0 for x in values["average_precision"]] for network, values in scores.items()}
    title = "Average precision of every label"
    return [Figures([figures.draw_class_scores(precision, names, "average precision", title)], "single"), table]


def target_scores(evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the errors of every target as a table, in the units of the targets."""
    scores = evaluation.get("per_target")
    if not scores:
        return [Note("evaluation.json has no scores of targets; evaluate.metrics=('per_target', ...) measures them.")]
    note = (
        "RMSE and MAE are in the units of the target. R2 is the fraction of its variance that a network explains: 1 for"
    )
    return [
        _list_scores("target", evaluation.get("targets", ()), scores, TARGET_SCORES),
        Note(f"{note} no error, 0 for a network that predicts the mean."),
    ]


def _list_scores(
    noun: str, names: Sequence[str], scores: Mapping[str, Mapping[str, Sequence[Any]]], titles: Mapping[str, str]
) -> Table:
    examples = next(iter(scores.values()))["examples"]
    body = [
        [name, f"{examples[row]:,}"]
        + [format_value(values[score][row]) for values in scores.values() for score in titles]
        for row, name in enumerate(names)
    ]
    return Table([noun, "examples", *(f"{network}: {title}" for network in scores for title in titles.values())], body)
