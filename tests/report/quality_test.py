"""Sections about each network on its own."""

import json
import re

import pytest

import report_files
from jaxdistill.report import quality
from jaxdistill.report import write as report
from report_files import BETTER, ROWS, fill, text_of


@pytest.fixture(scope="module")
def page():
    return report_files.page()


def test_summary_compares_the_best_student_with_the_reference(page):
    sentence = "pupil reaches an accuracy of 0.8750 on 6 examples of the test split: 97.2% of the 0.9000 of teacher, "
    assert sentence + "with 7.2% of its parameters and 4.9% of its arithmetic." in text_of(page)


def test_the_summary_of_a_regression_is_by_rmse():
    rows = [{"network": name, "rmse": rmse} for name, rmse in (("teacher", 50.0), ("alone", 60.0), ("pupil", 55.0))]
    sentence = quality.summarize(rows, {"reference": "teacher", "examples": 88, "split": "test"})
    assert (
        sentence
        == "pupil reaches an RMSE of 55.0000 on 88 examples of the test split: 10.0% above the 50.0000 of teacher."
    )


def test_the_summary_of_a_language_model_has_the_change_of_its_perplexity():
    rows = [{"network": name, "nll": nll} for name, nll in (("teacher", 1.5), ("pupil", 1.6))]
    sentence = quality.summarize(rows, {"reference": "teacher", "unit": "token"})
    assert sentence == (
        "pupil reaches a negative log-likelihood of 1.6000 nats per token: 0.1000 above the 1.5000, a perplexity 10.5%"
        " higher than that of teacher."
    )
    better = quality.summarize(
        [rows[1] | {"network": "teacher"}, rows[0] | {"network": "pupil"}], {"reference": "teacher", "unit": "token"}
    )
    assert "0.1000 below the 1.6000, a perplexity 9.5% lower than that of teacher." in better


def test_curves_are_of_the_final_metric_and_one_evaluation_is_a_note():
    lines = [{"step": step, "split": "validation", "student/nll": 2.0, "student/accuracy": 0.5} for step in (1, 2)]
    assert quality.choose_measure(lines, "nll") == "nll"
    assert quality.choose_measure(lines, "rmse") == "accuracy"
    (heading, *notes) = quality.training({"train": lines[:1]})
    assert heading.text == "train"
    assert [note.text for note in notes] == [
        "validation accuracy at step 1: student 0.5000.",
        "This stage logged no loss and no learning rate.",
    ]


def test_one_small_learning_rate_is_a_note_with_its_digits():
    (_, *notes) = quality.training({"train": [{"step": 30, "loss": 2.0, "rate": 8.2228e-6}]})
    assert "learning rate at step 30: learning rate 8.223e-06." in [note.text for note in notes]


def test_an_accuracy_of_zero_is_measured():
    rows = [{"network": "teacher", "accuracy": 0.0}, {"network": "pupil", "accuracy": 0.5}]
    assert "0.5000: above the 0.0000 of teacher." in quality.summarize(rows, {"reference": "teacher"})


def test_best_students_leave_out_the_reference_and_columns_of_equals():
    assert quality.find_best_students(ROWS, "teacher", BETTER) == {
        ("pupil", "accuracy"),
        ("pupil", "nll"),
        ("pupil", "agreement"),
    }


def test_scores_of_every_class_are_in_a_table(page):
    section = page[page.index("<h2>Classes") : page.index("<h2>Calibration")]
    tables = section[section.index("<tbody>") : section.index("</tbody>")]
    assert re.findall(r"<t[hd][^>]*>([^<]*)<", tables.split("</tr>")[1]) == ["bee", "2", *["0.2500"] * 9]


def test_a_stage_without_evaluation_has_a_note(page):
    assert page.count("This stage logged no validation accuracy.") == 1


def test_evaluations_of_other_splits_are_not_drawn(page):
    assert "unseen" not in text_of(page)
    assert "unheard" not in text_of(page)


def test_numbers_that_are_not_finite_are_shown(tmp_path):
    workdir = fill(tmp_path / "run")
    rows = json.loads((workdir / "results.json").read_text())
    rows[1] |= {"accuracy": float("nan"), "nll": float("inf")}
    (workdir / "results.json").write_text(json.dumps(rows))
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "distil", "step": 200, "rate": 0.1, "loss": NaN, "kd": Infinity}\n')
    text = text_of(report.write_report(workdir).read_text())
    assert "pupil reaches an accuracy of 0.8750" in text
    assert "nan" in text


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (("accuracy", "nll"), "accuracy"),
        (("nll",), "nll"),
        (("accuracy", "nll", "perplexity"), "nll"),
        (("accuracy", "perplexity"), "accuracy"),
        (("mae", "rmse", "gaussian_nll"), "rmse"),
    ],
)
def test_training_is_drawn_by_accuracy_that_of_tokens_by_nll_and_that_of_numbers_by_rmse(measured, expected):
    assert quality.choose_measure([{f"student/{name}": 1.0 for name in measured}]) == expected


@pytest.mark.parametrize(
    ("row", "measure"),
    [
        ({"label_accuracy": 0.75, "binary_nll": 0.5, "subset_accuracy": 0.5}, "subset_accuracy"),
        ({"mae": 2.0, "rmse": None, "r2": 0.5}, "mae"),
        ({"nll": 0.5, "mae": None}, "accuracy"),
    ],
)
def test_networks_are_compared_by_a_metric_that_was_measured(row, measure):
    assert quality.choose_final([row], {"unit": "example"}) == measure


def test_parts_by_a_column_follow_the_results():
    rows = [{"network": "student", "accuracy": 0.5, "accuracy:fr": 0.25, "accuracy:de": 0.75}]
    route = {"column": "language", "examples": {"fr": 4, "de": 4}}
    blocks = quality.results(rows, {"route": route, "better": {}})
    found = [block for block in blocks if block.kind == "table"]
    assert [table.columns for table in found] == [
        ["network", "parameters", "FLOPs", "accuracy"],
        ["network", "language", "examples", "accuracy"],
    ]
    assert found[1].rows == [["student", "fr", "4", "0.2500"], ["student", "de", "4", "0.7500"]]
