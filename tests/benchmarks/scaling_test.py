"""Plots of cost: a point each, time beside what the arithmetic alone would take."""

import importlib
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
scaling = importlib.import_module("scaling")


class Counting:
    """Steps that take no time."""

    def __init__(self, flops):
        self.made, self.count = 0, flops

    def run(self, steps):
        self.made += steps

    def flops(self):
        return self.count


def test_every_point_is_a_row_in_its_line_and_place():
    made = {"dense": {1.0: Counting(1e9), 2.0: Counting(3e9)}, "chunked": {1.0: Counting(7)}}
    rows = scaling.measure(made, rounds=3)
    assert [(row["name"], row["at"], row["GFLOP"]) for row in rows] == [
        ("dense", 1.0, 1.0),
        ("dense", 2.0, 3.0),
        ("chunked", 1.0, 1.0),
    ]
    assert made["dense"][2.0].made == 2 * (3 + 1)  # two steps a call, three rounds and a warm-up
    assert all(row["GFLOP/s"] == pytest.approx(1e3 * row["GFLOP"] / row["ms"]) for row in rows)


def test_the_plot_has_every_line_and_the_arithmetic():
    rows = [{"name": "dense", "at": x, "ms": 10.0 * x, "GFLOP": x, "GFLOP/s": 100.0} for x in (1.0, 2.0, 4.0)]
    rows += [{"name": "chunked", "at": 1.0, "ms": 12.0, "GFLOP": 1.0, "GFLOP/s": 80.0}]
    svg = scaling.draw(rows, "vocabulary", "tokens")
    for word in ("dense", "chunked", "arithmetic", "milliseconds of a step by vocabulary", "tokens"):
        assert word in svg
