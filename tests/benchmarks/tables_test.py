"""The benchmark of tables: rows of a run and the configs that it runs."""

import importlib
import sys

from conftest import ROOT
from jaxdistill.config import load

sys.path.insert(0, str(ROOT / "benchmarks"))
tables = importlib.import_module("tables")


def test_rows_have_sizes_and_one_column_for_the_likelihood():
    def run(shift):
        student = {"network": "alone", "parameters": 10, "rmse": 2.0 + shift, "gaussian_nll": 1.0}
        return [{"network": "teacher", "rmse": 1.0, "gaussian_nll": 0.5}, student]

    teacher, alone = tables.make_rows([run(0.0), run(2.0)])
    assert [*teacher] == ["name", "rmse", "nll"]
    assert alone["name"] == "alone_student"
    assert (alone["parameters"], alone["bytes"], alone["rmse"]["mean"]) == (10, 40, 3.0)


def test_every_config_of_tables_is_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "configs" / "tables").glob("*.py")}
    assert files == {config.partition(".py")[0] + ".py" for config in tables.CONFIGS.values()}
    for config in tables.CONFIGS.values():
        evaluate = load.read(config)["stages"]["evaluate"]["evaluate"]
        assert {"teacher", "alone", "distilled"} <= {*evaluate["networks"]}
        assert {*evaluate["metrics"]} & {*tables.METRICS}
