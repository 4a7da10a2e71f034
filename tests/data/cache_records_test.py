"""Records of caches: whole numbers of few bits."""

import numpy as np
import pytest

from jaxdistill.data.cache_records import convert, make_layout, pack_bits, read_arrays, read_dtype, unpack_bits


def test_bits_one_after_another():
    assert pack_bits(np.array([[1, 2, 3]]), 3).tolist() == [[0b11_010_001, 0b0]]
    assert unpack_bits(np.array([[0b11_010_001, 0b0]], np.uint8), 3, 3).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("bits", [1, 7, 13, 17, 20])
def test_what_is_packed_is_what_is_read(bits):
    values = np.random.default_rng(0).integers(0, 1 << bits, (4, 5, 16))
    arrays = {"ids": ((5, 16), f"uint{bits}"), "negative_entropy": ((5,), "float32")}
    rows = np.zeros(4, make_layout(arrays))
    rows["ids"] = convert(values, f"uint{bits}")
    assert rows.dtype.itemsize == 5 * (2 * bits + 4)
    assert np.array_equal(read_arrays(rows, arrays)["ids"], values)
    assert read_dtype(f"uint{bits}") == np.int32
