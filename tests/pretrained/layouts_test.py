"""Orders of axes in both directions, by single numbers."""

import numpy as np
import pytest

from jaxdistill.pretrained import layouts

CASES = {
    "same": (layouts.SAME, (2, 3), (2, 3), (1, 2), (1, 2)),
    "linear": (layouts.LINEAR, (2, 3), (3, 2), (1, 2), (2, 1)),
    "heads": (layouts.HEADS, (2 * 3, 5), (5, 2, 3), (1 * 3 + 2, 4), (4, 1, 2)),
    "heads_bias": (layouts.HEADS_BIAS, (2 * 3,), (2, 3), (1 * 3 + 2,), (1, 2)),
    "out": (layouts.OUT, (5, 2 * 3), (2, 3, 5), (4, 1 * 3 + 2), (1, 2, 4)),
    "heads_in_first": (layouts.HEADS_IN_FIRST, (5, 2 * 3), (5, 2, 3), (4, 1 * 3 + 2), (4, 1, 2)),
    "out_in_first": (layouts.OUT_IN_FIRST, (2 * 3, 5), (2, 3, 5), (1 * 3 + 2, 4), (1, 2, 4)),
    "conv": (layouts.CONV, (2, 3, 4, 5), (4, 5, 3, 2), (1, 2, 3, 4), (3, 4, 2, 1)),
    "patches": (layouts.PATCHES, (2, 3, 4, 4), (4 * 4 * 3, 2), (1, 2, 3, 0), (3 * 4 * 3 + 0 * 3 + 2, 1)),
    "leading": (layouts.LEADING, (6,), (1, 1, 6), (4,), (0, 0, 4)),
    "trailing": (layouts.TRAILING, (6, 1, 1), (6,), (4, 0, 0), (4,)),
    "places": (layouts.PLACES, (2, 3 * 4 * 5), (4, 5, 3, 2), (1, 2 * 20 + 3 * 5 + 4), (3, 4, 2, 1)),
    "places_in_first": (layouts.PLACES_IN_FIRST, (4 * 5 * 3, 2), (4, 5, 3, 2), (3 * 15 + 4 * 3 + 2, 1), (3, 4, 2, 1)),
    "bgr": (layouts.BGR, (4, 5, 3, 2), (4, 5, 3, 2), (3, 4, 0, 1), (3, 4, 2, 1)),
}
"""name -> (layout, shape of the tensor, shape here, a place in the tensor, the same place here)"""


@pytest.mark.parametrize("name", CASES)
def test_each_number_is_at_its_place_and_comes_back(name):
    layout, tensor_shape, shape, place, here = CASES[name]
    tensor = np.arange(np.prod(tensor_shape), dtype=np.float32).reshape(tensor_shape)
    array = layout.from_tensor(tensor, shape)
    assert array.shape == shape
    assert array[here] == tensor[place]
    np.testing.assert_array_equal(layout.to_tensor(array, tensor_shape), tensor)


@pytest.mark.parametrize("name", CASES)
def test_shapes_that_fit_and_those_that_do_not(name):
    layout, tensor_shape, shape, *_ = CASES[name]
    assert layout.fits(tensor_shape, shape)
    assert not layout.fits((*tensor_shape[:-1], tensor_shape[-1] + 1), shape)
    assert not layout.fits((*tensor_shape, 1), shape)
    assert layout.tensor_shape(shape) == (None if layout.flat else tensor_shape)


def test_all_but_patches_are_views():
    for name, (layout, tensor_shape, shape, *_) in CASES.items():
        tensor = np.zeros(tensor_shape, np.float32)
        assert np.shares_memory(layout.from_tensor(tensor, shape), tensor) == (name != "patches")
