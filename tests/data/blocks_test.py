"""Blocks of values as bytes."""

import numpy as np
import pytest

from jaxdistill.data import blocks

VALUES = {
    blocks.TEXT: ["good film", "", "ü\ud800", "\n"],
    blocks.FLOAT: [0.1, float("inf"), -1e300],
    blocks.JSON: [None, 3, "ü", [{"role": "user", "n": 0.1}], 10**30, True],
    blocks.HELD: ["text", (1, 2), b"\xff", {1: 2}],
}


@pytest.mark.parametrize("form", VALUES)
def test_a_block_has_the_values_that_were_written(form):
    content = bytearray(b"xyz")  # an earlier block

    def write(part):
        content.extend(memoryview(part).cast("B"))
        return len(content) - memoryview(part).nbytes

    block = blocks.write_block(write, VALUES[form])
    assert (block.form, len(block)) == (form, len(VALUES[form]))
    file = np.frombuffer(content, np.uint8)
    for places in ([*range(len(block))], [2], [2, 0]):
        values = block.read(lambda start, stop: file[start:stop], places)
        assert values == [VALUES[form][place] for place in places]
        assert [*map(type, values)] == [type(VALUES[form][place]) for place in places]


def test_an_estimate_is_at_least_what_a_value_takes():
    assert blocks.estimate("x" * 100) > 100
    assert blocks.estimate([{"role": "x" * 100}] * 3) > 300
    assert blocks.estimate(b"x" * 100) > 100
