"""Image files: values of more than 8 bits, and sizes that Pillow does not decode."""

import numpy as np
import pytest
from PIL import Image

from jaxdistill.data import image_files, images
from jaxdistill.data.image_files import read_image, read_mask
from jaxdistill.errors import UserError


@pytest.mark.parametrize(
    ("name", "dtype", "mode"), [("a.png", np.uint16, "I;16"), ("a.tif", np.int32, "I"), ("b.tif", np.float32, "F")]
)
def test_values_that_would_be_clipped_are_refused(tmp_path, name, dtype, mode):
    """Pillow clips 300 and 400 to 255, so that classes of dark and bright images would be equal."""
    Image.fromarray(np.array([[300, 400]], dtype)).save(tmp_path / name)
    for channels in (1, 3):
        with pytest.raises(UserError, match=f"{name} must have 8 bits a channel, got mode {mode}. Convert"):
            read_image(tmp_path / name, channels)
    assert read_mask(tmp_path / name).tolist() == [[300, 400]]


def test_an_image_beyond_pillows_limit_is_named(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    with pytest.raises(UserError, match="a.png must be an image of at most 14 pixels"):
        read_image(tmp_path / "a.png", 3)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("P", 3), ("RGBA", 4), ("RGB", 1)])
@pytest.mark.parametrize("size", [(37, 61), (61, 37), (16, 16), (7, 5)])
def test_a_square_is_that_of_the_whole_image(tmp_path, mode, channels, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "a.png")
    square = image_files.read_square(tmp_path / "a.png", channels, 16)
    expected = images.crop_to_square(image_files.read_image(tmp_path / "a.png", channels), 16)
    assert np.abs(square.astype(int) - expected).max() <= 1


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(coarse).resize((800, 600), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg")
    square = image_files.read_square(tmp_path / "a.jpg", 3, 64)
    monkeypatch.setattr(image_files, "GAP", 1000)
    whole = image_files.read_square(tmp_path / "a.jpg", 3, 64)
    assert 0 < np.abs(square.astype(int) - whole).max() <= 2
