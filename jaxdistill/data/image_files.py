"""Image files, decoded with Pillow, and splits of them."""

import dataclasses
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.dataset import Split, take_arrays
from jaxdistill.data.images import crop_to_square
from jaxdistill.errors import UserError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of the numbers of channels."""

GAP = 2
"""How much larger than needed a JPEG is decoded: from 2 on Pillow finds the difference hard to see (`reducing_gap`)."""

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
        size: side that images are resized to (`read_square`); 0 for their own.
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
        image = read_square(source, self.shape[-1], self.size) if self.size else read_image(source, self.shape[-1])
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
    image = np.asarray(_convert(path, _open(path), channels))
    return image[..., None] if image.ndim == 2 else image


def read_square(path: pathlib.Path | EncodedImage, channels: int, size: int) -> np.ndarray:
    """Decodes the centre square of an image whose short side is resized, uint8 `[size, size, channels]`.

    The values are those of `images.crop_to_square` of the whole image to 1 of 255. A JPEG of more than `GAP` times the
    size is decoded at a half, a quarter or an eighth of its own, by which they differ by about 2 in a photograph,
    and by up to 40 where neighbouring pixels are noise.
    """
    from PIL import Image

    if MODES[channels] == "RGBA":  # Pillow multiplies colours by alpha before it resizes them together
        return crop_to_square(read_image(path, channels), size)
    image = _convert(path, _open(path, least=GAP * size), channels)
    if image.size != (size, size):
        width, height = image.size
        scale = size / min(width, height)
        across, down = max(size, round(width * scale)), max(size, round(height * scale))
        left, top = (across - size) // 2, (down - size) // 2
        unit_x, unit_y = width / across, height / down
        box = (left * unit_x, top * unit_y, (left + size) * unit_x, (top + size) * unit_y)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).reshape(size, size, channels)


def _convert(path: pathlib.Path | EncodedImage, opened: Any, channels: int) -> Any:
    """Returns a Pillow image with this number of channels."""
    if opened.mode.startswith(WIDE):
        raise UserError(
            f"{path} must have 8 bits a channel, got mode {opened.mode}. Convert the values of the images to 0 to 255"
        )
    return opened if opened.mode == MODES[channels] else opened.convert(MODES[channels])


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


def _open(path: pathlib.Path | EncodedImage, decode: bool = True, least: int = 0) -> Any:
    """Opens an image; a JPEG whose sides may be reduced to `least` pixels is decoded at a fraction of its size."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(path.content) if isinstance(path, EncodedImage) else path)
        if least:
            image.draft(None, (least, least))
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
