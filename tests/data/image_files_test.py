"""Image files: values of more than 8 bits, and sizes that Pillow does not decode."""

import numpy as np
import pytest
from PIL import Image

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
