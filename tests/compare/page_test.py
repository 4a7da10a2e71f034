"""Tables and figures of a comparison."""

import pytest

from compared_runs import BETTER, write_run
from jaxdistill.compare import page
from jaxdistill.compare.differences import Difference
from jaxdistill.compare.experiments import group_members
from jaxdistill.compare.finished_run import read_run
from jaxdistill.report import figures


def groups(*texts):
    return group_members([read_run(text) for text in texts])


def test_results_mark_the_best_row_of_each_network(tmp_path):
    texts = [
        write_run(tmp_path / name, accuracy=a, temperature=t) for name, a, t in (("a", 0.5, 2.0), ("b", 0.75, 4.0))
    ]
    table = page.describe_results(groups(*texts), BETTER)
    assert table.columns == ["network", "run", "seeds", "parameters", "bytes", "FLOPs", "accuracy", "nll"]
    rows = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert [rows["distilled", text]["accuracy"].best for text in texts] == [False, True]
    assert not any(cell.best for text in texts for cell in [*rows["alone", text].values()][3:])  # all are equal
    assert rows["alone", texts[0]]["parameters"].text == "9"


def test_rows_carry_their_evaluation(tmp_path):
    text = write_run(tmp_path / "a", lanes=(0.5, 0.75), sweep={"seed": [0, 1]})
    [group] = groups(text)
    for row in group.members[0].run.lane_rows:
        row |= {"evaluation": "noisy", "split": "test"}
    table = page.describe_results([group], BETTER)
    assert table.columns[:5] == ["network", "evaluation", "split", "run", "seeds"]
    assert [[str(cell) for cell in row[:5]] for row in table.rows] == [
        ["alone", "noisy", "test", text, "1"],
        ["distilled", "noisy", "test", text, "2"],
    ]


def test_a_single_seed_has_the_error_over_examples():
    def difference(metric, over, values):
        return Difference("b", "a", ("x", ""), metric, over, values)

    examples = difference("accuracy", "examples", [0, 1])
    one = [difference("accuracy", "seeds", [0.5]), difference("nll", "seeds", [0.25]), examples]
    table = page.describe_differences({"": one})
    assert table is not None
    assert [list(row) for row in table.rows] == [["x", "b - a", "1 seed, 2 examples", "+0.5000 ± 0.5000", "+0.2500"]]
    table = page.describe_differences({"": [difference("accuracy", "seeds", [0.5, 0.25]), examples]})
    assert table is not None
    assert [list(row) for row in table.rows] == [
        ["x", "b - a", "2 seeds", "+0.3750 ± 0.1250"],
        ["x", "b - a", "2 examples", "+0.5000 ± 0.5000"],
    ]
    assert page.describe_differences({"": []}) is None


def test_curves_are_means_over_the_members(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "draw_curves", lambda curves, label, y: drawn.update({y: curves}) or "<svg/>")
    texts = [write_run(tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
    lanes = write_run(tmp_path / "lanes", temperature=1.0, lanes=(0.5, 0.5), sweep={"seed": [0, 1]})
    page.draw_curves(groups(*texts, lanes))
    name = ", ".join(texts)
    assert drawn["validation accuracy of student"][name] == ([2, 4], pytest.approx([0.7, 0.9]))
    assert drawn["loss"] == {name: ([2, 4], [0.5, 0.25]), lanes: ([2, 4], [0.5, 0.25])}
