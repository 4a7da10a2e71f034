"""The estimate of a stored module."""

import types

import pytest

from estimate.hlo_test import TEXT
from jaxdistill.estimate import costs
from jaxdistill.estimate.chips import Chip

CHIP = Chip("TPU v5 lite", 1.0, clock=1e9, bandwidth=1e9, memory=1 << 30)
"""A cycle is a nanosecond, and so is a byte."""

STATS = types.SimpleNamespace(
    argument_size_in_bytes=1000, output_size_in_bytes=600, alias_size_in_bytes=500, temp_size_in_bytes=1 << 20
)
COMPILED = types.SimpleNamespace(as_text=lambda: TEXT, memory_analysis=lambda: STATS)


@pytest.fixture(scope="module")
def estimate():
    return costs.estimate(COMPILED, CHIP, {"bfloat16": 4 * 197_000_000}, devices=4)


def test_time_is_split_by_networks_loss_optimizer_and_input(estimate):
    kernel = 3 * 8 * 16 * 2  # bytes that it reads and writes
    # The fused reduce-scatter is a collective, and counts nowhere.
    nanoseconds = {name: round(1e9 * seconds) for name, seconds in estimate.parts.items()}
    assert nanoseconds == {
        "input": 50,
        "loss": 30,
        "optimizer": 20,
        "student backward": kernel,
        "student forward": 12 * 100,
    }
    assert estimate.seconds == pytest.approx(sum(estimate.parts.values()))
    assert round(1e9 * estimate.by_roofline) == kernel
    assert estimate.utilisation == pytest.approx(1e-6 / estimate.seconds)


def test_operations_of_all_layers_and_loops_are_one(estimate):
    first = estimate.operations[0]
    assert (first.part, first.name, first.runs) == ("student forward", "block/feed_forward/down/dot_general", 12)
    assert first.place == "models/transformer.py:300"


def test_collectives_are_counted_once_by_their_results(estimate):
    assert estimate.collectives == {
        "all-reduce": (1, 16 * 16 * 4),
        "all-gather": (1, 16 * 16 * 4),
        "reduce-scatter": (1, 4 * 16 * 4),
    }


def test_memory_counts_donated_arguments_once(estimate):
    assert estimate.memory == costs.Memory(1000, 100, 1 << 20)
    assert estimate.memory.peak == 1100 + (1 << 20)


def test_names_have_no_transforms_and_no_numbers_of_layers():
    name = "jit(one_step)/transpose(jvp(networks.student))/ViT/block3/feed_forward/down/dot_general"
    assert costs.shorten(name) == "block/feed_forward/down/dot_general"
    assert costs.shorten("jit(one_step)/input/vmap(_randint)/add") == "one_step/_randint/add"


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 34.50G of 15.75G hbm. Exceeded",
            34.5 * 2**30,
        ),
        ("RESOURCE_EXHAUSTED: Used 900M of 15.75G hbm", 900 * 2**20),
        ("INTERNAL: something else", None),
    ],
)
def test_the_bytes_of_a_program_that_does_not_fit_are_in_its_message(message, needed):
    assert costs.read_excess(RuntimeError(message)) == needed
