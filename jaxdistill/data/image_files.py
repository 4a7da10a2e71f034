"""Image files of annotated datasets, decoded with Pillow."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxdistill.errors import UserError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of the numbers of channels."""


def read_image(path: pathlib.Path, channels: int) -> np.ndarray:
    """Decodes an image as uint8 `[height, width, channels]`; the orientation of EXIF is not applied.

    Raises:
        UserError: for a file that is damaged or no image.
    """
    image = np.asarray(_open(path).convert(MODES[channels]))
    return image[..., None] if image.ndim == 2 else image


def read_mask(path: pathlib.Path) -> np.ndarray:
    """Decodes the values of a mask, `[height, width]`, of an image with a palette its indices.

    Raises:
        UserError: for a file that is damaged, no image, or of several channels.
    """
    mask = np.asarray(_open(path))
    if mask.ndim != 2:
        raise UserError(
            f"{path} must be a mask with one value per pixel, got an image of shape {list(mask.shape)}. Convert its"
            " colours to numbers of classes"
        )
    return mask.astype(np.int32)


def read_size(path: pathlib.Path) -> tuple[int, int]:
    """Returns the height and width of an image file without decoding it."""
    width, height = _open(path, decode=False).size
    return height, width


def _open(path: pathlib.Path, decode: bool = True) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(path)
        if decode:
            image.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} must be an image, got {type(error).__name__}: {error}. Restore the file") from error
    return image


def check_files(paths: Iterable[pathlib.Path], source: str) -> None:
    """Raises `UserError` for the first of some files that does not exist; `source` names them."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{missing[0]}, which {source} names, must be a file, got none; {len(missing)} in all are missing. Correct"
            " data.path, or remove them from the list"
        )


def check_channels(channels: int) -> int:
    """Returns the number of channels to decode, 3 by default, or raises `UserError` for an impossible one."""
    if channels not in (0, *MODES):
        raise UserError(f"data.channels must be one of {[*MODES]}, got {channels}. Leave it out for 3")
    return channels or 3


def first_file(candidates: Sequence[pathlib.Path]) -> pathlib.Path:
    """Returns the first candidate that exists, or the first one."""
    return next((path for path in candidates if path.is_file()), candidates[0])
