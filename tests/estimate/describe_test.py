"""Lines of an estimate for `--plan`."""

from estimate.costs_test import CHIP, COMPILED
from jaxdistill.estimate import costs, describe


def test_an_estimate_has_memory_time_by_part_collectives_and_operations():
    counted = {"bfloat16": 8_000_000_000}
    estimate = costs.estimate(COMPILED, CHIP, counted, devices=4)
    lines = "\n".join(describe.describe(estimate, CHIP, counted, examples=64, devices=4))
    for part in (
        "1.001 MiB of 1 GiB at the peak: fits",
        "time by the compiler's estimate",
        "a lower bound (2 GFLOP",
        "(2 GFLOP of matrix products and convolutions a device)",
        "student forward: 0.0012 ms (58.0%)",
        "by a roofline, since the compiler estimates no kernels written by hand",
        "loops without a fixed number of trips, which count as one: 1",
        "collectives: 1 all-reduce of 1 KiB, 1 all-gather of 1 KiB, 1 reduce-scatter of 256 B",
        "student forward: block/feed_forward/down/dot_general (12 times), models/transformer.py:300",
    ):
        assert part in lines


def test_more_than_the_memory_does_not_fit():
    line = describe.describe_memory(costs.Memory(1 << 30, 0, 1), CHIP)
    assert line.endswith("1 GiB of 1 GiB at the peak: does not fit")
