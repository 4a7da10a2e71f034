"""The files of a run: read, missing, damaged or of something else."""

import json
import subprocess
import sys

import numpy as np
import pytest

import report_files
from jaxdistill.errors import UserError
from jaxdistill.report import write as report
from report_files import FILES, fill, text_of


@pytest.fixture(scope="module")
def page():
    return report_files.page()


@pytest.mark.slow
def test_same_workdir_gives_the_same_page(page, tmp_path):
    once = report.write_report(fill(tmp_path / "run")).read_text()
    assert report.write_report(tmp_path / "run").read_text() == once
    assert once.split("<h2>", 1)[1] == page.split("<h2>", 1)[1]


@pytest.mark.parametrize("missing", [*[(name,) for name in FILES], FILES])
def test_missing_parts_leave_a_note(tmp_path, missing):
    workdir = fill(tmp_path / "run")
    for name in missing:
        (workdir / name).unlink()
    written = report.write_report(workdir).read_text()
    text = text_of(written)
    assert ("<h2>Agreement" in written) == ("predictions.npz" not in missing)  # no section of a note alone
    assert ("<h2>Not in this run" in written) == bool(
        {*missing} & {"predictions.npz", "evaluation.json", "metrics.jsonl"}
    )
    notes = {
        "evaluation.json": "No two networks were compared",
        "predictions.npz": "No class predictions of two or more networks",
        "metrics.jsonl": "there are no curves",
        "config.json": "config.json is missing",
        "environment.json": "environment.json is missing",
    }
    for name, sentence in notes.items():
        assert (sentence in text) == (name in missing)


def test_no_images_and_no_reference_leave_sentences(tmp_path):
    workdir = fill(tmp_path / "run")
    evaluation = json.loads((workdir / "evaluation.json").read_text()) | {"reference": None}
    (workdir / "evaluation.json").write_text(json.dumps(evaluation))
    with np.load(workdir / "predictions.npz") as held:
        empty = {"sheet/index": held["sheet/index"][:0], "sheet/image": held["sheet/image"][:0]}
        np.savez(workdir / "predictions.npz", **(dict(held) | empty))
    text = text_of(report.write_report(workdir).read_text())
    assert "There are no images to show" in text
    assert "names no reference network" in text
    assert "teacher reaches an accuracy of 0.9000 on 6 examples of the test split, the best of 3." in text


def test_of_repeated_steps_the_later_counts_and_a_torn_line_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"stage": "a", "step": step, "loss": loss} for step, loss in ((1, 5.0), (2, 4.0), (2, 3.0))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "a", "st')
    assert [line["loss"] for line in report.read_lines(path)["a"]] == [5.0, 3.0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", "{"),
        ("results.json", '{"a": 1}'),
        ("results.json", '[{"net": 1}]'),
        ("evaluation.json", "[1]"),
        ("metrics.jsonl", "[]\n"),
        ("predictions.npz", ""),
        ("predictions.npz", "no zip"),
    ],
)
def test_a_foreign_file_is_a_mistake_of_the_user(tmp_path, name, content):
    workdir = fill(tmp_path / "run")
    (workdir / name).write_text(content)
    with pytest.raises(UserError, match=name) as caught:
        report.write_report(workdir)
    removed = {"results.json": "it", "metrics.jsonl": ""}.get(name, "it and results.json")
    assert not removed or f"Remove {removed}, and the command of the run evaluates again" in str(caught.value)


def test_a_missing_workdir_is_an_error_without_a_traceback(tmp_path, capsys):
    assert report.main([str(tmp_path / "nowhere")]) == 2
    printed = capsys.readouterr().err
    assert "results.json is missing" in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_report_is_made_again_from_the_command_line(page, tmp_path):
    workdir = fill(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "jaxdistill.report.__main__", str(workdir)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(workdir / "report.html")
    assert (workdir / "report.html").read_text().split("<h2>", 1)[1] == page.split("<h2>", 1)[1]


def test_scores_that_a_task_does_not_have_leave_no_sections(tmp_path):
    workdir = fill(tmp_path / "run")
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    rows = json.loads((workdir / "results.json").read_text())
    clean, noisy = ([row | {"evaluation": name, "split": "test"} for row in rows] for name in ("clean", "noisy"))
    (workdir / "results.json").write_text(json.dumps([row | {"nll": 77.0} for row in clean] + noisy))
    titles = {"confusion": "Confusion matrices", "classes": "Classes", "calibration": "Calibration"}
    for shown in ([], ["classes"], [*titles]):
        (workdir / "evaluation.json").write_text(json.dumps(evaluation | {"figures": shown}))
        page = report.write_report(workdir).read_text()
        assert [name for name, title in titles.items() if f">{title}</h2>" in page] == [
            name for name in titles if name in shown
        ]
    results, _, table = page.partition("<h3>every evaluation</h3>")
    assert ("77.0000" in results, "77.0000" in table) == (False, True)  # the page is of the last evaluation
