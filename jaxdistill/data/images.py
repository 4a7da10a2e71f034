"""Images of another size, colour or unit than they are stored in, on the host."""

import numpy as np

from jaxdistill.core import LUMINANCE
from jaxdistill.data.dataset import Arrays
from jaxdistill.errors import UserError


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes so that the short side is `size` (bilinear, antialiased) and cuts the centre square."""
    from PIL import Image

    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    scale = size / min(height, width)
    target = max(size, round(width * scale)), max(size, round(height * scale))
    channels = [
        Image.fromarray(image[..., c]).resize(target, Image.Resampling.BILINEAR) for c in range(image.shape[-1])
    ]
    resized = np.stack([np.asarray(channel) for channel in channels], -1)
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def recolour(image: np.ndarray, channels: int) -> np.ndarray:
    """Repeats grey `[..., 1]` in every channel, or makes red, green and blue `[..., 3]` their luminance.

    Args:
        image: uint8, or float in [0, 1].
        channels: 0 leaves an image as it is.

    Raises:
        UserError: for any other change of the number of channels.
    """
    have = image.shape[-1]
    if channels in (0, have):
        return image
    if have == 1:
        return np.repeat(image, channels, -1)
    if (have, channels) != (3, 1):
        raise UserError(
            f"data.channels={channels} of images with {have}; grey becomes any number, red, green and blue become 1"
        )
    grey = (image @ np.array(LUMINANCE, np.float32))[..., None]
    return np.round(grey).astype(np.uint8) if image.dtype == np.uint8 else grey.astype(image.dtype)


def shaped(image: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Gives one image `[height, width, channels]` this side and these channels; 0 leaves either."""
    return recolour(fit(image, size) if size else image, channels)


def reshape(split: Arrays, size: int, channels: int) -> Arrays:
    """Gives all the images of a split in memory this side and these channels; 0 leaves either."""
    if not size and not channels:
        return split
    return Arrays(np.stack([shaped(image, size, channels) for image in split.image]), split.label)


def in_units_of(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Writes images as uint8 from 0 to 255, or as float32 in [0, 1]."""
    if image.dtype == dtype:
        return image
    return np.round(image * 255).astype(np.uint8) if dtype == np.uint8 else (image / 255).astype(np.float32)
