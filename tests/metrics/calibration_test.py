"""Calibration: expected calibration error and reliability."""

import json

import numpy as np
import pytest

from metric_values import at_confidence, draw_examples, value


@pytest.fixture(scope="module")
def random():
    return draw_examples()


def test_ece_by_hand():
    # In (8/15, 9/15]: 0.55 right and 0.59 wrong. In (13/15, 14/15]: 0.9 right.
    logits = at_confidence(0.55, 0.59, 0.9)
    expected = (abs(1 - (0.55 + 0.59)) + abs(1 - 0.9)) / 3
    assert value("ece", logits, [0, 1, 0]) == pytest.approx(expected, abs=1e-6)


def test_ece_of_certainty():
    assert value("ece", [[1e4, 0.0], [1e4, 0.0]], [0, 1]) == pytest.approx(0.5)


def test_ece_equals_a_plain_loop(random):
    logits, label = random
    label = np.where(np.arange(64) % 2, np.argmax(logits, -1), label)  # bins both too sure and not sure enough
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    confidence, right = p.max(-1), p.argmax(-1) == label
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert value("ece", logits, label) == pytest.approx(expected, abs=1e-6)


def test_reliability_by_hand_and_as_json():
    logits = np.concatenate([at_confidence(0.55, 0.59), [[1e4, 0.0]]])
    table = json.loads(json.dumps(value("reliability", logits, [0, 1, 0])))
    assert len(table["edges"]) == 16
    assert (table["edges"][0], table["edges"][15]) == (0.0, 1.0)
    assert table["count"] == [0] * 8 + [2] + [0] * 5 + [1]
    assert table["accuracy"][8] == 0.5
    assert table["confidence"][8] == pytest.approx(0.57)
    assert (table["confidence"][14], table["accuracy"][14]) == (1.0, 1.0)
    assert table["confidence"][0] is table["accuracy"][0] is None


def test_reliability_bins_are_closed_on_the_right():
    logits = np.zeros((1, 3))  # a confidence of 1/3 is the upper edge of bin 4
    assert value("reliability", logits, [0])["count"].index(1) == 4
