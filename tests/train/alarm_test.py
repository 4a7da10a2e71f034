"""Alarms: the mean of a window, each lane by itself, one report, and the end of a stage."""

import numpy as np
import pytest

from jaxdistill.train.alarm import WINDOW, Alarm


def test_the_mean_of_a_window_is_compared_and_reported_once():
    alarm = Alarm({"written_entropy": (0.5, 3.0)})
    assert not alarm.find_breach(0, {"written_entropy": np.full(WINDOW - 1, 0.1), "loss": np.zeros(WINDOW - 1)}, 90)
    breach = alarm.find_breach(WINDOW - 1, {"written_entropy": np.array([0.2])}, 90)
    assert breach == "written_entropy is 0.105 at step 20, outside [0.5, 3]"
    assert not alarm.find_breach(WINDOW, {"written_entropy": np.array([0.2])}, 90)


@pytest.mark.parametrize(("value", "breaches"), [(0.49, True), (0.5, False), (3.0, False), (3.1, True)])
def test_bounds_belong_to_the_range(value, breaches):
    alarm = Alarm({"written_entropy": (0.5, 3.0)})
    assert bool(alarm.find_breach(0, {"written_entropy": np.full(WINDOW, value)}, 90)) == breaches


def test_each_lane_has_its_own_window():
    alarm = Alarm({"written_length": (2, 9)})
    rows = {"0/written_length": np.full(WINDOW, 5.0), "1/written_length": np.full(WINDOW, 1.0)}
    assert alarm.find_breach(0, rows, 90).startswith("1/written_length is 1 at step 20")


def test_a_stage_that_was_resumed_near_its_end_is_stopped_at_its_last_step():
    alarm = Alarm({"written_length": (2, 9)})
    assert not alarm.find_breach(80, {"written_length": np.ones(9)}, 90)
    assert alarm.find_breach(89, {"written_length": np.ones(1)}, 90) == "written_length is 1 at step 90, outside [2, 9]"
