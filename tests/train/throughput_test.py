"""Rates, utilisation and the share of waiting, on a clock that is set by hand."""

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.train.throughput import Throughput


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_by_hand(clock):
    watched = Throughput(10, batch=8, devices=2, peak_flops=1000.0, clock=clock)
    watched.set_flops({"float32": 300, "bfloat16": 100})
    assert watched.take_window() == {}
    for step, waited in ((11, 0.5), (12, 0.0)):
        clock.now += 2.0
        watched.add_wait(waited)
        watched.record(step)
    assert watched.take_window() == {
        "examples_per_second": 2 * 8 / 4,
        "data_wait": 0.125,
        "model_flops_per_second": 2 * 400 / 4,
        "utilisation": 2 * 400 / (2 * 1000) / 4,  # two devices, each of 1000 FLOP/s
    }
    assert watched.take_window() == {}
    assert (
        watched.summary() == "4 examples/s, 2e-07 model GFLOP/s (10.0% of the peak), 12% of the time waiting for data"
    )


def test_flops_are_those_of_each_step(clock):
    watched = Throughput(0, batch=8, devices=1, peak_flops=1000.0, clock=clock)
    for step, number in ((2, 100), (3, 400)):
        watched.set_flops({"float32": number})
        clock.now += 3.0
        watched.record(step)
    assert watched.take_window()["model_flops_per_second"] == (2 * 100 + 400) / 6


def test_a_device_of_no_known_peak_has_no_utilisation(clock):
    watched = Throughput(0, batch=8, devices=1, clock=clock)
    watched.set_flops({"float32": 100})
    clock.now += 1.0
    watched.record(1)
    assert watched.take_window().keys() == {"examples_per_second", "data_wait", "model_flops_per_second"}


def test_time_of_other_things_is_not_training(clock):
    watched = Throughput(0, batch=8, devices=1, clock=clock)
    jax.jit(lambda x: x + clock.now)(jnp.ones(3))  # the first step compiles
    clock.now += 60.0
    watched.record(1)
    assert watched.take_window() == {}
    clock.now += 1.0
    watched.record(2)
    with watched.paused():
        clock.now += 30.0  # an evaluation
    clock.now += 1.0
    watched.record(4)
    assert watched.take_window()["examples_per_second"] == 3 * 8 / 2


def test_starvation_is_reported_once_after_five_seconds(clock):
    watched = Throughput(0, batch=8, devices=1, clock=clock)
    warnings = []
    for step in range(1, 40):
        clock.now += 0.5
        watched.add_wait(0.2)
        watched.record(step)
        warnings.append(watched.should_warn())
    assert warnings.count(True) == 1
    assert warnings.index(True) == 9  # after five seconds
    assert watched.wait_fraction() == pytest.approx(0.4)


def test_a_fast_source_is_not_reported(clock):
    watched = Throughput(0, batch=8, devices=1, clock=clock)
    for step in range(1, 40):
        clock.now += 0.5
        watched.add_wait(0.01)
        watched.record(step)
        assert not watched.should_warn()
