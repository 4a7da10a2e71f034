"""Biases, sums and ReLUs in the call of the convolution before them; and those that something else reads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.runtime.onednn import library, program
from onednn_calls import NUMBERS, EveryGeometry, count_calls, count_equations, define_call, draw, largest_difference

needs_onednn = pytest.mark.skipif(library.find_parts() is None, reason=f"needs {library.EXTRA}")


def convolve(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NUMBERS)


def block(x, w, bias):
    """A block of a network whose BatchNorms are folded."""
    y = nn.relu(convolve(x, w) + bias.reshape(1, 1, 1, -1))
    return nn.relu(x + (convolve(y, w) + bias.reshape(1, 1, 1, -1)))


def two_convolutions(x, w, bias):
    """A block whose shortcut is a convolution: the sum is in one of the two calls."""
    return nn.relu(convolve(x, w) + (convolve(nn.relu(x), w) + bias.reshape(1, 1, 1, -1)))


def read_twice(x, w, bias):
    y = convolve(x, w) + bias.reshape(1, 1, 1, -1)
    return nn.relu(y) * jnp.sign(y)


def returned(x, w, bias):
    y = convolve(x, w)
    return y, y + bias.reshape(1, 1, 1, -1)


def other_bound(x, w, bias):
    return jnp.maximum(convolve(x, w), 0.5)


def with_a_tap(x, w, bias):
    """A tap that nothing takes does not count as a reader."""

    def features(x):
        y = convolve(x, w) + bias.reshape(1, 1, 1, -1)
        return nn.relu(y), {"tap": y.mean()}

    return features(x)[0]


# program, sums and maxima that remain
PROGRAMS = {
    "block": (block, 0),
    "two convolutions": (two_convolutions, 1),
    "tap": (with_a_tap, 0),
    "read twice": (read_twice, 1),
    "returned": (returned, 1),
    "other bound": (other_bound, 1),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_nothing_else_reads_is_in_the_call(name, monkeypatch):
    monkeypatch.setattr(jax.ffi, "ffi_call", define_call)
    run, remaining = PROGRAMS[name]
    arrays = draw((2, 4, 4, 3), (3, 3, 3, 3), (3,))
    rewritten = program.use_onednn(run, EveryGeometry())
    assert count_equations("add", rewritten, *arrays) + count_equations("max", rewritten, *arrays) == remaining
    outputs = jax.jit(lambda *arrays: (run(*arrays), rewritten(*arrays)))(*arrays)
    assert largest_difference(*outputs) < 2e-6


@needs_onednn
@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_onednn_computes_them(name):
    run, _ = PROGRAMS[name]
    arrays = draw((5, 8, 9, 16), (3, 3, 16, 16), (16,))
    rewritten = program.use_onednn(run, library.load())
    assert count_calls(rewritten, *arrays) >= 1
    outputs = jax.jit(lambda *arrays: (run(*arrays), rewritten(*arrays)))(*arrays)
    assert largest_difference(*outputs) < 2e-6


@needs_onednn
@pytest.mark.slow
def test_nan_is_not_hidden_by_a_relu():
    x, w, bias = draw((2, 8, 8, 16), (3, 3, 16, 16), (16,))
    run = jax.jit(program.use_onednn(block, library.load()))
    assert np.isnan(run(x.at[0, 3, 3, 0].set(jnp.nan), w, bias)[0]).any()
