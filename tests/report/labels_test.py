"""Sections of labels and of targets."""

from jaxdistill.report import labels
from jaxdistill.report.html import Details, Figures, Note
from jaxdistill.report.tables import Table

SCORES = {name: [0.5, None] for name in labels.LABEL_SCORES} | {"examples": [3, 0]}


def test_labels_have_a_figure_and_a_table_of_scores():
    figure, table = labels.label_scores({"classes": ["red", "dark"], "per_label": {"student": SCORES}})
    assert isinstance(figure, Figures)
    assert isinstance(table, Details)
    assert table.block.columns[:3] == ["label", "examples", "student: average precision"]
    assert table.block.rows[1] == ["dark", "0", *["-"] * 5]


def test_targets_have_a_table_in_their_units():
    scores = {"rmse": [2.5], "mae": [2.0], "r2": [0.75], "examples": [8]}
    table, note = labels.target_scores({"targets": ["age"], "per_target": {"student": scores}})
    assert isinstance(table, Table)
    assert table.rows == [["age", "8", "2.5000", "2.0000", "0.7500"]]
    assert "0 for a network that predicts the mean" in note.text


def test_a_run_without_scores_has_a_note():
    for section in (labels.label_scores, labels.target_scores):
        (note,) = section({"classes": ["red"], "targets": ["age"]})
        assert isinstance(note, Note)
        assert "evaluate.metrics=('per_" in note.text
