"""The image processing of a checkpoint: `preprocessor_config.json` as the images that a network expects."""

import pathlib
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.pretrained.config_json import ConfigJson

FILE = "preprocessor_config.json"

INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the ways to resize."""


def read_image_spec(folder: pathlib.Path, default_size: int, channels: int = 3) -> ImageSpec | None:
    """Returns the images that a network expects; `None` without the file.

    Args:
        folder: of the checkpoint.
        default_size: the side of the images if the file does not have one.
        channels: of the images.

    Raises:
        UserError: for a size, an interpolation or numbers that cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    config = ConfigJson.read(path)
    resized = _side(path, "size", config.get("size", default_size))
    crop, shorter = resized, 0
    if config.get("do_center_crop", False) and config.get("crop_size"):
        crop, shorter = _side(path, "crop_size", config["crop_size"]), resized
    elif config.get("crop_pct") and resized < 384:  # ConvNeXt's rule
        shorter = int(resized / config["crop_pct"])
    mean, std = (
        _numbers(path, key, config.get(key, [default] * channels), channels)
        for key, default in (("image_mean", 0.5), ("image_std", 0.5))
    )
    if not config.get("do_normalize", True):
        mean, std = (0.0,) * channels, (1.0,) * channels
    interpolation = config.choose("resample", INTERPOLATIONS, 2)
    return ImageSpec((crop, crop, channels), mean, std, shorter_side=shorter, interpolation=interpolation)


def _side(path: pathlib.Path, key: str, value: Any) -> int:
    if isinstance(value, dict):
        sides = {value.get("height", value.get("shortest_edge")), value.get("width", value.get("shortest_edge"))}
        value = sides.pop() if len(sides) == 1 else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{key} of {path} must be one side in pixels, got {value!r}. Correct the file")
    return value


def _numbers(path: pathlib.Path, key: str, value: Any, count: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count or not all(isinstance(x, int | float) for x in value):
        raise UserError(f"{key} of {path} must be {count} numbers, got {value!r}. Correct the file")
    return tuple(float(x) for x in value)
