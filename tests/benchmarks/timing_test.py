"""Ratios by rounds, and the peak of matrix products."""

import importlib
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
timing = importlib.import_module("timing")


def test_a_ratio_is_of_the_same_round():
    # A machine that gets three times slower on the way: the medians alone would say that b wins by 1.5.
    rows = timing.compare({"a": [1.0, 2.0, 3.0], "b": [0.5, 1.0, 2.0]}, "a", examples=8, flops=4e9, peak=8e9)
    assert rows[0] == {
        "name": "a", "ms": 2e3, "images/s": 4.0, "ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0,
        "GFLOP/s": 2.0, "of peak": 0.25,
    }  # fmt: skip
    assert (rows[1]["ratio"], rows[1]["ratio_low"], rows[1]["ratio_high"]) == (2.0, 1.75, 2.0)
    assert (rows[1]["GFLOP/s"], rows[1]["of peak"]) == (4.0, 0.5)


def test_one_round_has_a_ratio_too():
    rows = timing.compare({"a": [1.0], "b": [4.0]}, "a", examples=1, unit="texts")
    assert rows[1] == {"name": "b", "ms": 4e3, "texts/s": 0.25, "ratio": 0.25, "ratio_low": 0.25, "ratio_high": 0.25}


def test_the_peak_is_the_best_that_a_product_reached(monkeypatch):
    small = [0, 0, 0, 1, 1, 1, 1.5, 3]  # until 2: products of 1 and of half a second
    large = [3, 3, 3, 11, 11]  # until 5: one of 8 seconds
    clock = iter(small + large)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    asked = []
    found = timing.measure_peak(lambda size: asked.append(size) or (lambda: None))
    assert asked == [2048, 4096]
    assert found == 2 * 2048**3 / 0.5


@pytest.mark.parametrize("words", [["--rounds", "2", "--write", "x.json"], []])
def test_every_script_takes_rounds_and_write(words):
    given = timing.make_parser("About.", rounds=7).parse_args(words)
    assert given.rounds == (2 if words else 7)
