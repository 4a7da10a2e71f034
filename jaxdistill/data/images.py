"""Images of another size, number of channels or unit than they are stored in, on the host."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdistill.core import LUMINANCE
from jaxdistill.data.dataset import Arrays, Dataset
from jaxdistill.errors import UserError


def check_channels_last(shape: Sequence[int], path: str) -> None:
    """Raises `UserError` for images `[channels, height, width]`; `shape` is that of one image."""
    if shape[0] in (1, 3) and shape[-1] > 4:
        raise UserError(
            f"{path} must be [n, height, width, channels], got images of shape {tuple(shape)}, whose channels seem to"
            " be first. Move them to the end, numpy.moveaxis(images, 1, -1)"
        )


def crop_to_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes so that the short side is `size` (bilinear, antialiased), and cuts the centre square."""
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


def stretch(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image to height and width (bilinear, antialiased), whatever its own."""
    from PIL import Image

    if image.shape[:2] == size:
        return image
    channels = [
        Image.fromarray(image[..., c]).resize(size[::-1], Image.Resampling.BILINEAR) for c in range(image.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1)


def convert_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Repeats grey `[..., 1]` in every channel, or reduces red, green and blue `[..., 3]` to their luminance.

    Args:
        image: uint8, or float in [0, 1].
        channels: 0 leaves an image unchanged.

    Raises:
        UserError: for any other change of the number of channels.
    """
    present = image.shape[-1]
    if channels in (0, present):
        return image
    if present == 1:
        return np.repeat(image, channels, -1)
    if (present, channels) != (3, 1):
        raise UserError(
            f"data.channels={channels} of images with {present}; grey becomes any number, red, green and blue become 1"
        )
    grey = (image @ np.array(LUMINANCE, np.float32))[..., None]
    return np.round(grey).astype(np.uint8) if image.dtype == np.uint8 else grey.astype(image.dtype)


def resize(image: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Gives one image `[height, width, channels]` this side and these channels; 0 leaves either."""
    return convert_channels(crop_to_square(image, size) if size else image, channels)


def resize_splits(dataset: Dataset, size: int, channels: int) -> Dataset:
    """Gives all images of a dataset in memory this side and these channels; 0 leaves either."""
    if not size and not channels:
        return dataset
    splits = {}
    for role, split in dataset.splits.items():
        batch = split.take(np.arange(len(split)))
        image, label = batch.pop("image"), batch.pop("label")
        splits[role] = Arrays(np.stack([resize(x, size, channels) for x in image]), label, batch)
    return dataclasses.replace(dataset, splits=splits, shape=splits["train"].image.shape[1:])


def convert_units(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Writes images as uint8 from 0 to 255, or as float32 in [0, 1]."""
    if image.dtype == dtype:
        return image
    return np.round(image * 255).astype(np.uint8) if dtype == np.uint8 else (image / 255).astype(np.float32)
