"""Images of another size, colour or unit."""

import numpy as np
import pytest

from jaxdistill.data import images
from jaxdistill.errors import UserError


def test_fit_keeps_the_centre_and_the_aspect():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 200
    fitted = images.crop_to_square(image, 20)
    assert fitted.shape == (20, 20, 3)
    assert (fitted[:, 1:-1] == 200).all()
    np.testing.assert_array_equal(images.crop_to_square(image[:, :40], 40), image[:, :40])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_colours(dtype):
    whole = 255 if dtype == np.uint8 else 1.0
    red = np.zeros((2, 2, 3), dtype)
    red[..., 0] = whole
    grey = images.convert_channels(red, 1)
    assert (grey.shape, grey.dtype) == ((2, 2, 1), dtype)
    np.testing.assert_allclose(grey, np.full((2, 2, 1), 0.299 * whole), atol=0.5 if dtype == np.uint8 else 1e-6)
    np.testing.assert_array_equal(
        images.convert_channels(images.convert_channels(grey, 3), 1), grey
    )  # white is as bright as its grey
    assert images.convert_channels(red, 0) is red
    with pytest.raises(UserError, match="data.channels=4 of images with 3"):
        images.convert_channels(red, 4)


def test_units():
    stored = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    unit = images.convert_units(stored, np.dtype(np.float32))
    assert (unit.min(), unit.max(), unit.dtype) == (0, 1, np.float32)
    np.testing.assert_array_equal(images.convert_units(unit, np.dtype(np.uint8)), stored)
