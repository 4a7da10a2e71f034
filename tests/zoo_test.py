"""The zoo has every method, and its table marks gains within the noise."""

import importlib
import sys

from conftest import ROOT
from jaxdistill.config import load, registry
from jaxdistill.conformance import toy_outputs

sys.path.insert(0, str(ROOT / "benchmarks"))
zoo = importlib.import_module("zoo")


OF_OTHER_TASKS = {
    *("alm", "forward_kl", "gkd", "reverse_kl", "skew_kl", "symmetric_kl", "taid", "top_k", "ttm", "uld"),
    *("cirkd", "cwd", "fgd", "ifvd", "pearson_kd", "random_sampling", "sampled_kl", "skd"),
}
"""Methods whose papers are about language models, or about maps of pixels."""


def test_every_classification_method_has_a_recipe(monkeypatch):
    monkeypatch.chdir(ROOT)
    tasks = {n: toy_outputs.task_of(registry.find("method", n)()) for n in registry.names("method")}
    wanted = {n for n, task in tasks.items() if task in ("images", "derivatives", "next_tokens")} - OF_OTHER_TASKS
    stages = set(load.read("configs/digits/zoo.py:all")["stages"])
    others = {"cross_entropy", "weak_to_strong"}  # the control; a teacher smaller than its student is in docs/modes.md
    assert stages - {"teacher", "alone", "paraphrase", "evaluate"} == wanted - others


def test_the_rows_have_gains_and_an_order():
    def row(name, accuracy):
        return {"network": name, "parameters": 7, "accuracy": accuracy, "nll": 1.0, "ece": 0.5, "agreement": 0.25}

    runs = [
        [row("teacher", 0.99), row("alone", 0.9), row("dkd", 0.8 + s), row("sp", 0.97), row("kd", 0.95 + s)]
        for s in (0.0, 0.01)
    ]
    rows = zoo.make_rows(runs)
    assert [row["name"] for row in rows] == ["teacher", "alone", "kd", "sp", "dkd"]
    lines = zoo.results.render_table(rows, {"columns": zoo.COLUMNS, "gains": ["gain"]}).splitlines()[2:]
    assert "0.9550 ± 0.0071 | +0.0550 ± 0.0050 |" in lines[2]
    assert lines[1].startswith("| `alone` | 0.9000 ± 0.0000 |  |")
    assert lines[2].endswith("| all images |")
    assert "worse" in lines[4]
    assert lines[4].endswith("| 100 labelled images |")
