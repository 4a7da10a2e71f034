"""The zoo has every method, and its table says where there is no gain."""

import importlib
import sys

import pytest

from conftest import ROOT
from jaxdistill.config import load, registry

sys.path.insert(0, str(ROOT / "benchmarks"))
zoo = importlib.import_module("zoo")


def test_every_classification_method_has_a_recipe(monkeypatch):
    monkeypatch.chdir(ROOT)
    wanted = {
        n for n in registry.names("method") if registry.find("method", n).domain in ("classification", "derivative")
    }
    stages = set(load.read("configs/digits/zoo.py:all").stages)
    others = {"cross_entropy", "weak_to_strong"}  # the control; a teacher smaller than its student is in docs/modes.md
    assert stages - {"teacher", "alone", "paraphrase", "evaluate"} == wanted - others


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.96, 0.97, 0.95], "+0.0600 ± 0.0058"),
        ([0.91, 0.89, 0.92], "+0.0067 ± 0.0088, none"),
        ([0.81, 0.82, 0.80], "-0.0900 ± 0.0058, worse"),
    ],
)
def test_a_gain_is_twice_its_standard_error(values, verdict):
    assert zoo.gain(values, [0.90, 0.90, 0.90]) == verdict


def test_the_table():
    def row(name, accuracy):
        return {"network": name, "parameters": 7, "accuracy": accuracy, "nll": 1.0, "ece": 0.5, "agreement": 0.25}

    runs = [[row("teacher", 0.99), row("alone", 0.9), row("dkd", 0.8 + s), row("kd", 0.95 + s)] for s in (0.0, 0.01)]
    lines = [line for line in zoo.table(runs).splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["teacher", "alone", "kd", "dkd"]
    assert "0.9550 ± 0.0071 | +0.0550 ± 0.0050 |" in lines[2]
    assert lines[2].endswith("| all images |")
    assert "worse" in lines[3]
    assert lines[3].endswith("| 100 labelled images |")
