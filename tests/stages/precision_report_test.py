"""Accuracy lost by networks below float32."""

import json

import pytest

import runs
from jaxdistill.config import load as configs
from jaxdistill.pipeline import run
from jaxdistill.stages import precision_report

SHORT = ("--config.steps=3", "--config.evaluate.every=0", "--config.stages.distil.checkpoint.keep=last")


@pytest.mark.slow
def test_a_run_with_a_teacher_in_int8_reports_the_lost_accuracy(tmp_path, capsys):
    assert runs.launched(tmp_path, *SHORT, "--config.networks.teacher.quantize=int8") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "int8" in line]
    assert len(lines) == 2  # where it teaches, and where it is measured; not where it learns
    assert lines[0].startswith("stage distil: network 'teacher' in int8: accuracy 0.")
    report = json.loads((tmp_path / "distil" / "done.json").read_text())["reduced"]["teacher"]
    assert report["form"] == "int8"
    assert report["split"] == "validation"
    assert 0 < report["examples"] <= precision_report.EXAMPLES
    assert 0.9 < report["agreement"] <= 1
    assert 0 < report["kl"] < 0.01
    assert abs(report["accuracy"] - report["exact_accuracy"]) <= 1 - report["agreement"] + 1e-6
    assert "reduced" not in json.loads((tmp_path / "teacher" / "done.json").read_text())
    assert "teacher" in json.loads((tmp_path / "evaluate" / "done.json").read_text())["reduced"]


@pytest.mark.slow
def test_the_lost_accuracy_of_a_language_model_is_over_its_tokens(tmp_path, capsys):
    config = runs.TINY.replace("tiny.py", "language.py")
    whole = configs.read(config) | {"steps": 2}
    whole["stages"] = {name: whole["stages"][name] for name in ("teacher", "live")}
    whole["stages"]["live"]["networks"] = {"teacher": {"dtype": "bfloat16"}, "student": {}}
    run.run(configs.stages(whole), tmp_path)
    report = json.loads((tmp_path / "live" / "done.json").read_text())["reduced"]["teacher"]
    assert report["form"] == "bfloat16"
    assert 0.8 < report["agreement"] <= 1
    assert 0 < report["kl"] < 0.01
    assert "network 'teacher' in bfloat16: accuracy 0." in capsys.readouterr().out
