"""Image files, decoded with Pillow, and splits of them."""

import dataclasses
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.dataset import Split, take_arrays
from jaxdistill.data.images import resize
from jaxdistill.errors import UserError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of the numbers of channels."""

WIDE = ("I", "F")
"""Beginnings of Pillow's modes of 16 or 32 bits and of floats."""


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """The bytes of an image file, with its place for messages."""

    place: str
    content: bytes = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return self.place


@dataclasses.dataclass(frozen=True)
class ImageFiles(Split):
    """Images with their supervision, decoded as they are read.

    Attributes:
        sources: a path or an `EncodedImage` each.
        rows: the positions in `sources` of the split's examples, int `[n]`.
        label: int32 `[n]`.
        size: side that images are resized to (`images.crop_to_square`); 0 for their own.
        shape: of an image.
        supervision: `labels` or `target` of the examples, if they have any.
    """

    sources: Sequence[Any]
    rows: np.ndarray
    label: np.ndarray
    size: int
    shape: tuple[int, ...]
    supervision: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        images = [self._decode(self.sources[int(row)]) for row in self.rows[positions]]
        taken = {"image": np.stack(images), "label": self.label[positions]}
        return taken | take_arrays(self.supervision, positions)

    def labels(self) -> np.ndarray:
        return self.label

    def _decode(self, source: pathlib.Path | EncodedImage) -> np.ndarray:
        image = resize(read_image(source, self.shape[-1]), self.size, 0)
        if image.shape != self.shape:
            raise UserError(
                f"{source} must be of shape {list(self.shape)}, as the first image is, got {list(image.shape)}. Set"
                " data.size, to which all images are resized"
            )
        return image


def read_image(path: pathlib.Path | EncodedImage, channels: int) -> np.ndarray:
    """Decodes an image as uint8 `[height, width, channels]`; the orientation of EXIF is not applied.

    Raises:
        UserError: for a file that is damaged or no image, and for values of more than 8 bits, which Pillow would clip.
    """
    opened = _open(path)
    if opened.mode.startswith(WIDE):
        raise UserError(
            f"{path} must have 8 bits a channel, got mode {opened.mode}. Convert the values of the images to 0 to 255"
        )
    image = np.asarray(opened.convert(MODES[channels]))
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


def _open(path: pathlib.Path | EncodedImage, decode: bool = True) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(path.content) if isinstance(path, EncodedImage) else path)
        if decode:
            image.load()
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} must be an image of at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, Pillow's limit, got a"
            " larger one. Reduce it"
        ) from error
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
