"""The benchmark of compression: rows of a run, what distillation gives back, and files of several tasks."""

import importlib
import sys

import pytest

import runs
from conftest import ROOT

sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
compression = importlib.import_module("compression")
config = importlib.import_module("jaxdistill.configs.compression")

COSTS = dict.fromkeys(compression.COSTS, 8)


def seed(shift):
    """Returns the rows of a run of one seed."""
    accuracies = dict(teacher=0.9, small_alone=0.6, small_distilled=0.7, sparse95_post=0.4, sparse95_tuned=0.7 + shift)
    accuracies |= dict(sparse95_distilled=0.8, quantized8_post=0.9, quantized8_tuned=0.9, quantized8_distilled=0.9)
    sizes = dict(teacher=1000, sparse95=100, quantized8=300, small=250)
    return [
        COSTS | {"network": name, "accuracy": value, "nll": 1.0, "agreement": 1.0, "bytes": sizes[name.split("_")[0]]}
        for name, value in accuracies.items()
    ]


def test_rows_have_costs_and_the_gain_by_the_teacher():
    rows = {row["name"]: row for row in compression.make_rows("digits", [seed(0.0), seed(0.02)])}
    assert next(iter(rows)) == "digits/teacher"
    assert rows["digits/sparse95_distilled"]["gain"]["mean"] == pytest.approx(0.09)
    assert rows["digits/small_distilled"]["gain"]["mean"] == pytest.approx(0.1)
    assert "gain" not in rows["digits/sparse95_tuned"]
    assert rows["digits/quantized8_post"]["bytes"] == 300


def test_what_is_given_back_is_a_part_of_what_was_lost():
    gains = compression.make_gains("digits", [seed(0.0)])
    assert [row["name"] for row in gains] == ["digits/quantized8", "digits/small", "digits/sparse95"]
    rounded, small, sparse = gains
    assert rounded["recovered"] is None  # nothing was lost
    assert "recovered" not in small
    assert sparse["recovered"] == pytest.approx((0.8 - 0.4) / (0.9 - 0.4))
    assert sparse["size"] == 0.1
    assert [sparse[form]["mean"] for form in compression.FORMS] == [0.4, 0.7, 0.8]


def test_the_figure_has_a_line_for_each_form():
    svg = compression.draw("digits", compression.make_rows("digits", [seed(0.0)]))
    assert [svg.count(f">{name}</text>") for name in ("post", "tuned", "distilled", "from scratch")] == [1] * 4


def test_a_file_keeps_the_rows_of_other_tasks(tmp_path, monkeypatch):
    path = tmp_path / "compression.json"
    monkeypatch.setattr(sys, "argv", ["compression.py"])
    for task, value in (("mnist", 1), ("digits", 2), ("mnist", 3)):
        compression.write_task(path, task, [{"name": f"{task}/teacher", "bytes": value}])
    written = compression.results.read(path)
    assert [(row["table"], row["bytes"]) for row in written["rows"]] == [("digits", 2), ("mnist", 3)]
    assert {"digits", "mnist"} <= written["conditions"].keys()


def test_every_task_has_a_config_whose_stages_are_in_order():
    for task, make in config.TASKS.items():
        stages = config.get_config(task).stages
        networks, views = stages.evaluate.networks, make().views or config.VIEWS
        assert {*views} <= {*config.VIEWS}
        assert len(views) == len(config.VIEWS) or task in ("cifar10", "ag_news"), "their budgets are on the page"
        assert {f"{name}_{form}" for name in views for form in compression.FORMS} < {*networks}
        for name, network in networks.items():
            stage = network.weights.removeprefix("stage:").partition("#")[0]
            assert stage in stages, name


@pytest.mark.slow
def test_the_smoke_makes_every_network(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert runs.launched(tmp_path / "run", config="configs/compression.py:smoke") == 0
    rows = runs.results(tmp_path / "run")
    assert len(rows) == 3 + 3 * len(config.SMOKE)
    assert min(row["latency_ms"] for row in rows) > 0
