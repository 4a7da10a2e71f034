"""The section about costs."""

from jaxdistill.report import cost
from report_files import render

ROWS = [{"network": name, "bytes": size, "accuracy": 0.5} for name, size in (("teacher", 4000), ("student", 1000))]
CONDITIONS = {"device": "cpu", "latency_batch": 1, "latency_rounds": 30, "throughput_batch": 64, "throughput_rounds": 9}


def test_the_figure_is_of_networks_with_bytes_and_quality():
    assert cost.draw(ROWS[:1], {}) is None
    assert cost.draw([ROWS[0], {"network": "svm", "bytes": 0, "accuracy": 0.5}], {}) is None
    assert cost.draw([ROWS[0], ROWS[1] | {"accuracy": None}], {}) is None
    assert "accuracy over bytes of every network" in cost.draw(ROWS, {})


def test_columns_have_meanings_and_times_their_conditions():
    text = render(cost.describe(ROWS, {"cost": CONDITIONS}, None))
    assert "all arrays of the network in a file" in text
    assert "time of one example" not in text
    assert "Times on cpu: 30 rounds with a batch of 1, 9 with a batch of 64." in text
    assert cost.describe([{"network": "a", "parameters": 1}], {}, None) == []
