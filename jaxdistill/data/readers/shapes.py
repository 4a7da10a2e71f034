"""Shapes on textures, drawn by integer arithmetic: images with masks or boxes, the same on every machine."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.dense import ANNOTATIONS, Dense, choose_annotations
from jaxdistill.errors import UserError

SIZE, SMALLEST, LARGEST = 64, 32, 512
EXAMPLES = {"train": 2000, "validation": 500, "test": 500}
CELLS = 4
"""Places of a shape in an image, two by two; the number of boxes of an example."""

CHUNK = 250
"""Images drawn at once: their arrays fit in a processor's cache better than those of a whole split."""

UNIT = 1024
"""The sine and cosine of an angle are whole multiples of `1 / UNIT`."""

ANGLES = 32


def _circle(u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    return (u >> 3) ** 2 + (v >> 3) ** 2 <= 81 * ((r >> 3) ** 2 // 100)


def _square(u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    return 4 * np.maximum(abs(u), abs(v)) <= 3 * r


def _triangle(u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    return (2 * v <= r) & (7 * abs(u) - 4 * v <= 4 * r)


def _cross(u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    longer, shorter = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    return (20 * longer <= 19 * r) & (10 * shorter <= 3 * r)


def _ring(u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    return _circle(u, v, r) & ((u >> 3) ** 2 + (v >> 3) ** 2 >= (r >> 3) ** 2 // 5)


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
}
"""Whether a point is in a shape, by its coordinates along the turned axes and the shape's radius, all of one unit."""


def read(settings: DatasetSettings) -> Dataset:
    """Returns 2,000 training, 500 validation and 500 test images of one to four shapes on a textured background.

    With `data.annotations="masks"` the classes are the background and the shapes, with "boxes" the shapes; a box
    encloses the visible pixels of its shape. Images are square, of side `data.size`, 64 by default, and in colour. An
    example is a function of its split and position.

    Raises:
        UserError: for annotations that are not chosen, values of void, and too small a size.
    """
    settings.check_no_path()
    settings.check_no_splits()
    settings.dense.check_no_void(settings.name)
    size, annotations = (
        settings.size or SIZE,
        choose_annotations(settings.dense.annotations, [*ANNOTATIONS], settings.name),
    )
    if not SMALLEST <= size <= LARGEST or settings.channels not in (0, 3):
        raise UserError(
            f"data.size must be {SMALLEST} to {LARGEST} and data.channels 3 for 'shapes', got {size} and"
            f" {settings.channels}. Leave them out for images of {SIZE} pixels"
        )
    splits = {role: Shapes(number, count, size, annotations) for number, (role, count) in enumerate(EXAMPLES.items())}
    background = ("background",) if annotations == "masks" else ()
    return Dataset(splits, (*background, *SHAPES), (size, size, 3))


@dataclasses.dataclass(frozen=True)
class Shapes(Dense):
    """A split of drawn images.

    Attributes:
        number: of the split.
        count: number of examples.
        size: side in pixels.
        annotations: "masks" or "boxes".
    """

    number: int
    count: int
    size: int
    annotations: str

    def __len__(self) -> int:
        return self.count

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        starts = range(0, len(positions), CHUNK)
        drawn = [_draw(self.number, np.asarray(positions[start : start + CHUNK]), self.size) for start in starts]
        return {
            name: np.concatenate([part[name] for part in drawn]) for name in ("image", *ANNOTATIONS[self.annotations])
        }


def _draw(number: int, positions: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Draws the images at some positions of a split, with masks and boxes."""
    random = functools.partial(_draw_integers, np.uint64(number) << np.uint64(40) | positions.astype(np.uint64))
    count, margin = len(positions), size // 2
    side = size + 2 * margin
    image = np.zeros((count, side, side, 3), np.int16)
    image[:, margin:-margin, margin:-margin] = _background(random, size)
    label_map, owner = np.zeros((count, side, side), np.int32), np.full((count, side, side), -1, np.int8)
    kinds = random("kind", (CELLS,), len(SHAPES))
    # A shape keeps its cell with probability 5/8; the first cell in a random order is never empty.
    exists = (random("exists", (CELLS,), 8) < 5) | (np.arange(CELLS) == random("first", (1,), CELLS))
    for cell in range(CELLS):
        rows = np.flatnonzero(exists[:, cell])
        patches = _shape(random, cell, kinds[:, cell], size)
        for row in rows:
            inside = patches.inside[row]
            place = (row, *(slice(start, start + len(inside)) for start in patches.corner[row] + margin))
            image[place][inside] = patches.colour[row][inside]
            label_map[place][inside] = kinds[row, cell] + 1
            owner[place][inside] = cell
    window = (slice(None), slice(margin, -margin), slice(margin, -margin))
    grain = _grain(random, size)
    fields = {"image": np.clip(image[window] + grain, 0, 255).astype(np.uint8), "label_map": label_map[window]}
    return fields | _boxes(owner[window], np.where(exists, kinds, UNLABELLED))


@dataclasses.dataclass(frozen=True)
class Patches:
    """Shapes of one cell of several images: squares of pixels about their centres.

    Attributes:
        corner: the first row and column of the square in the image, `[n, 2]`.
        inside: whether a pixel is in the shape, `[n, side, side]`.
        colour: of its pixels, int16 `[n, side, side, 3]`.
    """

    corner: np.ndarray
    inside: np.ndarray
    colour: np.ndarray


def _shape(random: Callable, cell: int, kind: np.ndarray, size: int) -> Patches:
    """Draws one shape per image, of a random size, place, angle and texture."""
    jitter, most = size // 10, size // 5
    centre = np.array([cell // 2, cell % 2]) * (size // 2) + size // 4
    centre = centre + random(f"centre{cell}", (2,), 2 * jitter + 1) - jitter
    radius = size // 9 + random(f"radius{cell}", (), most - size // 9 + 1)
    down, right = np.mgrid[-most : most + 1, -most : most + 1].astype(np.int32)
    angle = random(f"angle{cell}", (), ANGLES)
    turns = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    cos, sin = (np.round(UNIT * function(turns)).astype(np.int32)[angle] for function in (np.cos, np.sin))
    u = cos[:, None, None] * right + sin[:, None, None] * down
    v = cos[:, None, None] * down - sin[:, None, None] * right
    inside = np.zeros(u.shape, bool)
    reach = (UNIT * radius[:, None, None]).astype(np.int32)
    for number, contains in enumerate(SHAPES.values()):
        rows = kind == number
        inside[rows] = contains(u[rows], v[rows], reach[rows])
    # Stripes of a random width along the shape's axes, or squares of them, or one colour.
    width, pattern = UNIT * (2 + random(f"stripes{cell}", (), 4)).astype(np.int32), random(f"pattern{cell}", (), 3)
    stripes = np.zeros(u.shape, np.int32)
    striped, checked = pattern > 0, pattern > 1
    stripes[striped] = u[striped] // width[striped, None, None]
    stripes[checked] += v[checked] // width[checked, None, None]
    stripes &= 1
    two = (40 + random(f"colour{cell}", (2, 3), 176)).astype(np.int16)
    second = (2 * two[:, 0] + two[:, 1]) // 3
    colour = np.where(stripes[..., None] == 0, two[:, None, None, 0], second[:, None, None])
    return Patches(centre - most, inside, colour)


def _background(random: Callable, size: int) -> np.ndarray:
    """Returns smooth blobs of colour with stripes, int16 `[n, size, size, 3]`."""
    knots = 5
    coarse = 30 + random("blobs", (knots, knots, 3), 196)
    places = np.arange(size) * (16 * (knots - 1)) // size
    # Bilinear weights in sixteenths: sums of such products are exact in float32 in any order, and are then cut.
    weight = np.maximum(16 - abs(places[:, None] - 16 * np.arange(knots)), 0).astype(np.float32) / 16
    rows = np.einsum("hk,nkwc->nhwc", weight, coarse.astype(np.float32), optimize=True)
    blobs = np.einsum("wk,nhkc->nhwc", weight, rows, optimize=True).astype(np.int16)
    down, right = np.mgrid[:size, :size].astype(np.int32)
    # A product by the reciprocal, in units of 2^-16, is faster than a quotient.
    slope = ((random("slope", (2,), 9) - 4) * (UNIT * 64 // (6 + random("width", (), 24)))[:, None]).astype(np.int32)
    is_light = ((slope[:, :1, None] * down + slope[:, 1:, None] * right) >> 16) & 1
    light = (is_light * random("contrast", (), 48).astype(np.int32)[:, None, None] - 12).astype(np.int16)
    return blobs + light[..., None]


def _grain(random: Callable, size: int) -> np.ndarray:
    """Returns noise of each image, windows of one tile, int16 `[n, size, size, 3]`."""
    tile, starts = _tile(2 * size), random("grain", (2,), size)
    return np.stack([tile[row : row + size, column : column + size] for row, column in starts])


@functools.cache
def _tile(side: int) -> np.ndarray:
    drawn = _draw_integers(np.zeros(1, np.uint64), "tile", (side, side, 3, 2), 32)[0]
    return (drawn.sum(-1) - 31).astype(np.int16)


def _boxes(owner: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the boxes about the visible pixels of each cell's shape; cells without come last."""
    size = owner.shape[-1]
    is_own = owner[:, None] == np.arange(CELLS)[:, None, None]
    sides = []
    for axis in (3, 2):
        occurs = is_own.any(axis)
        sides += [occurs.argmax(-1), size - occurs[..., ::-1].argmax(-1)]
    top, bottom, left, right = sides
    boxes = np.stack([top, left, bottom, right], -1).astype(np.float32) / np.float32(size)
    label = np.where(is_own.any((2, 3)), label, UNLABELLED).astype(np.int32)
    order = np.argsort(label == UNLABELLED, axis=1, kind="stable")
    label = np.take_along_axis(label, order, 1)
    boxes = np.where(label[..., None] == UNLABELLED, 0, np.take_along_axis(boxes, order[..., None], 1))
    return {"boxes": boxes.astype(np.float32), "box_label": label, "box_crowd": np.zeros_like(label)}


def _draw_integers(key: np.ndarray, name: str, shape: tuple[int, ...], high: int) -> np.ndarray:
    """Draws integers in `[0, high)`, int64 `[n, *shape]`, by a hash of key, name and place.

    The finaliser of SplitMix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    NumPy's generators promise no stream across versions.
    """
    start = np.uint64(int.from_bytes(name.encode()[-8:], "little"))
    place = np.arange(np.prod(shape, dtype=np.int64), dtype=np.uint64)
    with np.errstate(over="ignore"):
        x = _mix(_mix(key + start)[:, None] + place * np.uint64(0x9E3779B97F4A7C15))
    return (x >> np.uint64(33)).astype(np.int64).reshape(len(key), *shape) % high


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
