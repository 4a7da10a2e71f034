"""Clock, bandwidth and peak of devices."""

import types

import pytest

from jaxdistill.errors import UserError
from jaxdistill.estimate import chips
from jaxdistill.runtime.topology import Topology


def slice_of(kind, cores):
    return Topology("x", "tpu", "libtpu", (types.SimpleNamespace(device_kind=kind, num_cores=cores),))


@pytest.mark.parametrize(
    ("kind", "cores", "clock"),
    [
        ("TPU v2", 1, 0.69e9),
        ("TPU v3", 1, 0.94e9),
        ("TPU v4", 1, 1.05e9),
        ("TPU v5 lite", 1, 1.5e9),
        ("TPU v5", 2, 1.75e9),
        ("TPU v6 lite", 1, 1.75e9),
        ("TPU7x", 1, 2.2e9),
    ],
)
def test_the_clock_of_a_tpu_is_its_peak_over_the_flops_of_a_cycle(kind, cores, clock):
    assert chips.find_chip(slice_of(kind, cores)).clock == pytest.approx(clock, rel=0.01)


def test_one_core_of_a_chip_has_half_of_its_peak_and_memory():
    one, both = (chips.find_chip(slice_of("TPU v4", cores)) for cores in (1, 2))
    assert (one.clock, 2 * one.memory, 2 * one.bandwidth) == (both.clock, both.memory, both.bandwidth)
    assert both.least_seconds({"bfloat16": 275_000_000}) == pytest.approx(1e-6)
    assert one.least_seconds({"bfloat16": 275_000_000}) == pytest.approx(2e-6)


def test_a_type_without_a_peak_has_that_of_float32():
    gpu = chips.find_chip(Topology("h100:1", "gpu", "jax-cuda12-plugin", (None,)))
    assert gpu.least_seconds({"float64": 494_700_000}) == pytest.approx(1e-6)
    assert (gpu.clock, gpu.memory >> 30) == (0, 79)


def test_a_device_without_a_clock_is_refused():
    with pytest.raises(UserError, match="must be one whose clock is listed, got 'TPU v9'"):
        chips.find_chip(slice_of("TPU v9", 1))
