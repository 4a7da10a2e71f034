"""Methods compared with their control: rows, their order and gains."""

import importlib
import sys

import pytest

from conftest import ROOT

sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
controlled = importlib.import_module("controlled")


def seed(shift):
    """Returns the rows of a run of one seed."""
    values = dict(weak=0.3, strong=0.6 + shift, alone=0.4 + shift / 2, teacher=0.5)
    return [
        {"network": name, "parameters": 8, "flops": 16, "map": value, "map75": None} for name, value in values.items()
    ]


def test_rows_are_the_teacher_the_control_and_methods_by_the_first_metric():
    rows = controlled.make_rows([seed(0.0), seed(0.1)], ("map", "map75"))
    assert [row["name"] for row in rows] == ["teacher", "alone", "strong", "weak"]
    assert ["gain" in row for row in rows] == [False, False, True, True]
    assert rows[2]["gain"]["mean"] == pytest.approx(0.225)
    assert rows[2]["map"]["mean"] == pytest.approx(0.65)
    assert rows[0]["flops"] == 16
