"""A separate package with a member of every room: installed, run by its own config, nothing edited in jaxdistill."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from conftest import ROOT

PROJECT = ROOT / "examples" / "own_project"
MEMBERS = {
    "models:TwoLayer": "model",
    "losses:Margin": "method",
    "metrics:Top3": "metric",
    "networks:Sharpened": "network",
    "stages:CountParameters": "kind",
    "views:Bounded": "view",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> pathlib.Path:
    """The package's installed files, in a folder of their own; the source folder stays as it is."""
    folder = tmp_path_factory.mktemp("site")
    copy = tmp_path_factory.mktemp("project") / "own_project"
    subprocess.run(["cp", "-r", str(PROJECT), str(copy)], check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*install, str(folder), str(copy)], check=True)
    return folder


def run(installed: pathlib.Path, *words: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": f"{installed}:{ROOT}", "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )


def test_a_config_of_a_separate_package_runs(installed, tmp_path):
    config = f"{PROJECT}/configs/kd.py:smoke"
    result = run(installed, "jaxdistill.launch", "--config", config, "--workdir", "own", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = {row["network"]: row for row in json.loads((tmp_path / "own" / "results.json").read_text())}
    assert {*rows} == {"teacher", "sharp", "distilled"}
    assert all(0 <= row["my_lab.metrics:Top3"] <= 1 for row in rows.values())
    assert rows["sharp"]["accuracy"] == rows["teacher"]["accuracy"]  # a temperature keeps the order of the logits
    assert rows["sharp"]["nll"] != rows["teacher"]["nll"]
    counts = json.loads((tmp_path / "own" / "count" / "parameters.json").read_text())
    assert counts == {
        network: rows[row]["parameters"] for network, row in (("teacher", "teacher"), ("student", "distilled"))
    }
    text = (tmp_path / "own" / "metrics.jsonl").read_text()
    assert '"margin"' in text


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_members_keep_the_promises_of_their_room(installed, tmp_path, name):
    result = run(installed, "jaxdistill.conformance", f"my_lab.{name}", "--room", MEMBERS[name], cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_a_mistake_in_a_members_field_gets_one_message(installed, tmp_path):
    config = f"{PROJECT}/configs/kd.py:smoke"
    words = ("jaxdistill.launch", "--config", config, "--workdir", "own")
    result = run(installed, *words, "--config.terms.margin.scael=1", cwd=tmp_path)
    assert result.returncode == 2
    assert "scale" in result.stderr
    assert "Traceback" not in result.stderr
    result = run(installed, *words, "--config.terms.margin.method=my_lab.losses:Margni", cwd=tmp_path)
    assert result.returncode == 2
    assert "Margni" in result.stderr
    assert "Traceback" not in result.stderr
