"""Integers of few bits: the bytes, the way back, and the error of rounding."""

import jax
import numpy as np
import pytest

from jaxdistill.compress import packing
from jaxdistill.errors import UserError


def test_two_integers_are_a_byte():
    assert packing.pack(np.array([1, -1, 7, -8], np.int8)).tolist() == [0xF1, 0x87]


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (1,), (0, 3)])
def test_packed_integers_come_back(shape):
    values = np.random.default_rng(0).integers(-8, 8, shape).astype(np.int8)
    packed = packing.pack(values)
    assert packed.nbytes == (values.size + 1) // 2
    assert np.array_equal(packing.unpack(packed, shape), values)
    assert np.array_equal(jax.jit(lambda x: packing.unpack(x, shape))(packed), values)


@pytest.mark.parametrize("bits", packing.BITS)
def test_rounding_errs_by_half_a_step_at_most(bits):
    array = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    array[:, 1] = 0
    integers = packing.round_symmetric(array, bits, summed=(0,))
    assert integers.scale.shape == (1, 3)
    assert (np.abs(integers.dequantize() - array) <= integers.scale / 2 * 1.0001).all()
    assert np.abs(integers.values).max() == 2 ** (bits - 1) - 1
    assert np.array_equal(jax.jit(integers.traced)(), integers.dequantize())


def test_affine_integers():
    integers = packing.StoredIntegers(
        np.array([[-8, 7]], np.int8), np.float32([[0.5]]), 4, zero=np.array([[-8]], np.int8)
    )
    assert integers.dequantize().tolist() == [[0.0, 7.5]]
    assert integers.traced().tolist() == [[0.0, 7.5]]


def test_bad_integers():
    with pytest.raises(UserError, match=r"must be one of \[8, 4\], got 3"):
        packing.round_symmetric(np.ones((2, 2), np.float32), 3, (0,))
    with pytest.raises(UserError, match=r"must be in \[-8, 7\]"):
        packing.StoredIntegers(np.array([9], np.int8), np.ones(1, np.float32), 4)
