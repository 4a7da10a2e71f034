"""Augmentation on the device, inside the jitted step, so that teacher and student see the same image.

All randomness is derived from names. The key of an example is a function of

    (seed, number of the copy, index of the example, number of the view, name of the transform)

and of nothing else: not of the step, the batch, the batch's size, the row or the device. The same example
in the same view is the same image (to float rounding) wherever and whenever it appears, so a teacher's output
for it can be cached once and replayed later. The same transform listed twice draws twice. Label maps and boxes move
with their image by the same keys (`geometry`).

Transforms are listed by name with their numbers, `("pad_crop:4", "flip", "cutout:8")`, and are applied in
that order to images in [0, 1], before standardisation: 0 is black. A transform is a function `(key, image, *numbers)
-> image` of one image `[height, width, channels]`; the annotations of its numbers are their types. One of the user's
own is `"package.module:function"` or `"package.module:function:8"`; of images with label maps or boxes it is an
`Augmentation` with its `geometry`.

`mixup` and `cutmix` mix two finished images, and `mosaic` four with their masks or boxes (`mixing`), so there is at
most one of them and it is listed last. A mixed image is a function of its examples, so a replay needs the same batches.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.core import Batch
from jaxdistill.data import colours, geometry, mixing, policies
from jaxdistill.data.geometry import Geometry
from jaxdistill.data.mixing import cutmix, mixup, mosaic
from jaxdistill.errors import UserError, unknown


def pad_crop(key: jax.Array, image: jax.Array, pad: int) -> jax.Array:
    """Pads by `pad` black pixels on each side and crops the old size at one of `(2 pad + 1)^2` offsets."""
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    row, column = geometry.draw_offset(key, 2 * pad)
    # Twice as fast on CPU as gathering by index arrays, ten times as fast as one-hot matrices.
    return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)


def flip(key: jax.Array, image: jax.Array) -> jax.Array:
    """Mirrors left and right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def rotate(key: jax.Array, image: jax.Array, degrees: float) -> jax.Array:
    """Rotates about the centre by an angle uniform in `[-degrees, degrees]`."""
    return rotate_by(image, geometry.draw_angle(key, degrees))


def rotate_by(image: jax.Array, degrees: jax.Array | float) -> jax.Array:
    """Rotates counter-clockwise about the centre, bilinearly, with black outside; 0 degrees change no bit."""
    height, width, _ = image.shape
    middle = ((height - 1) / 2, (width - 1) / 2)
    down, right = jnp.arange(height)[:, None] - middle[0], jnp.arange(width)[None, :] - middle[1]
    cos, sin = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    source = [cos * down + sin * right + middle[0], cos * right - sin * down + middle[1]]
    take = functools.partial(jax.scipy.ndimage.map_coordinates, order=1, mode="constant")
    return jax.vmap(lambda channel: take(channel, source), in_axes=-1, out_axes=-1)(image)


def jitter(key: jax.Array, image: jax.Array, brightness: float, contrast: float) -> jax.Array:
    """Scales the image by `1 + brightness u`, then its distance to its mean by `1 + contrast v`; clips.

    `u` and `v` are uniform in [-1, 1]. The mean is over all pixels and channels, and the clip to [0, 1] is
    one, at the end; torchvision's ColorJitter takes the mean of the grey image and clips after each step.
    """
    u, v = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
    image = image * (1 + brightness * u)
    middle = jnp.mean(image)
    return jnp.clip(middle + (image - middle) * (1 + contrast * v), 0.0, 1.0)


def cutout(key: jax.Array, image: jax.Array, side: int) -> jax.Array:
    """Blackens a square of this side.

    DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017,
    https://arxiv.org/abs/1708.04552. As in the authors' code the centre is uniform over the pixels and the
    square may cross the border. Differences: an odd side is honoured (theirs becomes `side - 1`),
    and the square is black before standardisation (theirs is 0 after it, the mean colour), because all
    transforms here work on images in [0, 1].
    """
    height, width, _ = image.shape
    centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    return jnp.where(geometry.find_window(image, centre, (side, side)), 0.0, image)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """A transform that a config can name.

    Attributes:
        apply: `(key, image, *numbers)`, of one image; or `(key, image, partner, *numbers)`, which returns the image and
            the fraction of it.
        constraint: on the numbers, for messages.
        example: a name with numbers.
        holds: returns whether numbers are allowed.
        mixes: whether it takes further images.
        geometry: the move of the pixels, for label maps and boxes; of one that mixes, the labels of the mixed image.
        moves: whether it moves pixels; one that does is for label maps and boxes only with a `geometry`.
    """

    apply: Callable[..., Any]
    constraint: str = "the numbers of its signature"
    example: str = ""
    holds: Callable[..., bool] = lambda *numbers: True
    mixes: bool = False
    geometry: Geometry | None = None
    moves: bool = True

    @property
    def types(self) -> list[type]:
        """Types of the numbers, by the annotations of `apply`."""
        parameters = [*inspect.signature(self.apply, eval_str=True).parameters.values()]
        return [parameter.annotation for parameter in parameters[3 if self.mixes else 2 :]]

    def __call__(self, *arguments: Any) -> Any:
        return self.apply(*arguments)


@dataclasses.dataclass(frozen=True)
class Step:
    """An augmentation as it is listed: as its text, with its name and its numbers."""

    text: str
    name: str
    augmentation: Augmentation
    numbers: tuple[Any, ...]

    def apply(self, key: jax.Array, *images: jax.Array) -> Any:
        """Returns the transformed image."""
        return self.augmentation.apply(key, *images, *self.numbers)

    def move(self, key: jax.Array, labels: Batch, size: tuple[int, int]) -> Batch:
        """Returns the dense labels of an image of this size, moved as the image is."""
        if not labels or not self.augmentation.moves:
            return labels
        return geometry.move(labels, size, self.augmentation.geometry(key, size, *self.numbers))

    def mix(
        self, keys: jax.Array, batch: Batch, *, moving: Sequence[str], mixed: Sequence[str], classes: int
    ) -> dict[str, jax.Array]:
        """Returns the images of a batch mixed, with their mask and labels."""
        if not moving:
            return mixing.mix_batch(self.apply, keys, batch, classes=classes, mixed=mixed)
        tile = functools.partial(self.augmentation.geometry, size=batch["image"].shape[1:3])
        return mixing.tile_batch(self.apply, tile, keys, batch, moving=moving)


BETA = "the alpha of Beta(alpha, alpha), above 0"

AUGMENTATIONS = {
    "pad_crop": Augmentation(
        pad_crop, "a number of pixels, 1 or more", "pad_crop:4", lambda pad: pad >= 1, geometry=geometry.pad_crop
    ),
    "crop": Augmentation(
        geometry.crop_image,
        "height and width in pixels, 1 or more",
        "crop:24,32",
        lambda height, width: min(height, width) >= 1,
        geometry=geometry.crop,
    ),
    "scale": Augmentation(
        geometry.scale_image,
        "the smallest and the largest factor, from 0.1 to 10",
        "scale:0.5,2.0",
        lambda low, high: 0.1 <= low <= high <= 10,
        geometry=geometry.scale,
    ),
    "flip": Augmentation(flip, "no number", "flip", geometry=geometry.flip),
    "rotate": Augmentation(
        rotate, "degrees from 0 to 180", "rotate:15", lambda d: 0 <= d <= 180, geometry=geometry.rotate
    ),
    "jitter": Augmentation(
        jitter,
        "brightness and contrast, both from 0 to 1",
        "jitter:0.2,0.2",
        lambda brightness, contrast: 0 <= brightness <= 1 and 0 <= contrast <= 1,
        moves=False,
    ),
    "random_resized_crop": Augmentation(
        geometry.random_resized_crop_image,
        "the smallest and the largest fraction of the area, above 0 and up to 1",
        "random_resized_crop:0.08,1.0",
        lambda low, high: 0 < low <= high <= 1,
        geometry=geometry.random_resized_crop,
    ),
    "color_jitter": Augmentation(
        colours.jitter,
        "brightness, contrast, saturation from 0 on and hue from 0 to 0.5",
        "color_jitter:0.4,0.4,0.4,0.1",
        lambda brightness, contrast, saturation, hue: min(brightness, contrast, saturation) >= 0 and 0 <= hue <= 0.5,
        moves=False,
    ),
    "rand_augment": Augmentation(
        policies.rand_augment,
        f"a number of operations, 1 or more, and a magnitude from 0 to {policies.MOST}",
        "rand_augment:2,9",
        lambda count, magnitude: count >= 1 and 0 <= magnitude <= policies.MOST,
    ),
    "random_erasing": Augmentation(
        policies.random_erasing, "a probability", "random_erasing:0.25", lambda p: 0 <= p <= 1, moves=False
    ),
    "cutout": Augmentation(cutout, "a side in pixels, 1 or more", "cutout:8", lambda side: side >= 1, moves=False),
    "mixup": Augmentation(mixup, BETA, "mixup:0.2", lambda alpha: 0 < alpha < math.inf, mixes=True),
    "cutmix": Augmentation(cutmix, BETA, "cutmix:1.0", lambda alpha: 0 < alpha < math.inf, mixes=True),
    "mosaic": Augmentation(mosaic, "no number", "mosaic", mixes=True, geometry=geometry.tile),
}
"""Augmentations by name."""

MIXING = tuple(name for name, augmentation in AUGMENTATIONS.items() if augmentation.mixes)
"""The names of those that make an image of two."""


def build(
    names: Sequence[str],
    *,
    seed: int,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    views: int = 1,
    moving: Sequence[str] = (),
    mixed: Sequence[str] = (),
) -> Callable[[Batch], Batch]:
    """Returns the augmentation of a training batch, ready for `jit`, and for a batch sharded over its rows.

    It takes `image`, uint8 or float in [0, 1], `[batch, height, width, channels]`, `label`
    (`core.UNLABELLED` if hidden), `index` and `view`, int32 `[batch]`, and `mask`, float32 `[batch]`;
    other keys pass unchanged. It returns `image` as `(x - mean) / std` in float32. If images are mixed,
    `label` becomes float32 `[batch, classes]`, 0 everywhere if either of the two is unlabelled, and `mask`
    the product of the two masks.

    Args:
        names: the transforms in order, as `"flip"` or `"jitter:0.2,0.2"`; may be empty.
        seed: of the augmentation alone, an int or a traced scalar.
        classes: number of classes, for soft labels.
        mean, std: of each channel, of images in [0, 1].
        views: number of independently augmented copies to return, as `image`, `image2`, `image3`.
        moving: fields of dense labels, which move with the first copy.
        mixed: fields of several labels or targets, which are mixed instead of classes.

    Raises:
        UserError: for an unknown transform, wrong numbers, a mixing transform that is not last or meets
            `views > 1`, an impossible mean or std; while tracing, for images of another type or other channels.
    """
    steps, mix = _parse_all(names)
    _check_copies([*steps.values(), *mix.values()], views, moving)
    standardise = _standardise(mean, std)

    def augment_one(key: jax.Array, image: jax.Array, labels: Batch) -> tuple[jax.Array, Batch]:
        keys, labels = core.fold_in(key, steps), geometry.begin(labels)
        for name, step in steps.items():
            labels = step.move(keys[name], labels, image.shape[:2])
            image = step.apply(keys[name], image)
        return image, geometry.finish(labels)

    def augment(batch: Batch) -> Batch:
        result = dict(batch)
        for copy in range(views):
            keys = _keys(seed, copy, batch)
            images, labels = jax.vmap(augment_one)(keys, _unit(batch["image"]), {name: batch[name] for name in moving})
            for name, step in mix.items():
                drawn = jax.vmap(lambda key, name=name: core.fold_in(key, [name])[name])(keys)
                fields = {**batch, **labels, "image": images}
                labels = step.mix(drawn, fields, moving=moving, mixed=mixed, classes=classes)
                images = labels.pop("image")
            result |= labels
            result[f"image{copy + 1}" if copy else "image"] = standardise(images)
        return result

    return augment


def plain(mean: Sequence[float], std: Sequence[float]) -> Callable[[Batch], Batch]:
    """Returns the preparation for evaluation: `image` as standardised float32, without transforms."""
    standardise = _standardise(mean, std)
    return lambda batch: {**batch, "image": standardise(_unit(batch["image"]))}


def _parse_all(names: Sequence[str]) -> tuple[dict[str, Step], dict[str, Step]]:
    """Returns the transforms of one image and those of two, none or one, as `{"flip/0": step}` in order.

    The number counts transforms of the same name, so that adding another transform changes no key.
    """
    if isinstance(names, str):
        raise UserError(f"augmentations are a list of names, not the string {names!r}; write ({names!r},)")
    steps: dict[str, Step] = {}
    mix: dict[str, Step] = {}
    for number, text in enumerate(names):
        step = _parse(text)
        if step.augmentation.mixes and number < len(names) - 1:
            raise UserError(
                f"augmentation {text!r} mixes two finished images: list it last, and only one of "
                f"{sorted(MIXING)}; here {names[number + 1]!r} follows it"
            )
        group = mix if step.augmentation.mixes else steps
        group[f"{step.name}/{sum(key.startswith(step.name) for key in group)}"] = step
    return steps, mix


def _parse(text: str) -> Step:
    """Returns an augmentation with its name and numbers."""
    if not isinstance(text, str):
        raise UserError(f"data.augment must be names with numbers, as in 'cutout:8', got {text!r}")
    name, colon, rest = text.partition(":")
    if "." in name:  # a path of modules
        attribute, colon, rest = rest.partition(":")
        name = f"{name}:{attribute}"
    elif name not in AUGMENTATIONS:
        raise unknown("data.augment", name, AUGMENTATIONS, "an augmentation")
    member = registry.find("augmentation", name, "data.augment")
    augmentation = member if isinstance(member, Augmentation) else Augmentation(member, example=f"{name}:NUMBER")
    try:
        pairs = zip(augmentation.types, rest.split(",") if colon else (), strict=True)
        numbers = [read(word) for read, word in pairs]
        valid = augmentation.holds(*numbers)
    except ValueError:
        valid = False
    if not valid:
        constraint, example = augmentation.constraint, augmentation.example
        raise UserError(f"augmentation {text!r}: {name} takes {constraint}, as in {example!r}")
    return Step(text, name, augmentation, numbers=tuple(numbers))


def list_mixing(names: Sequence[str]) -> list[str]:
    """Returns those of some augmentations that make an image of two, which depends on the batch."""
    return [text for text in names if _parse(text).augmentation.mixes]


def _check_copies(steps: Sequence[Step], views: int, moving: Sequence[str]) -> None:
    """Raises `UserError` for several views that cannot be, and for augmentations that dense labels cannot follow."""
    if views < 1:
        raise UserError(f"views must be at least 1, the number of augmented copies, got {views}")
    mixing_steps = [step for step in steps if step.augmentation.mixes]
    if mixing_steps and views > 1:
        raise UserError(
            f"{mixing_steps[0].text!r} gives one image and one soft label, not views={views}; drop one of the two"
        )
    if not moving:
        if any(step.augmentation.geometry for step in mixing_steps):
            raise UserError("data.augment must not have 'mosaic' for images with one class each. Take 'cutmix:1.0'")
        return
    if views > 1:
        raise UserError(f"data.views must be 1 for images with masks or boxes, got {views}. Leave it out")
    for step in steps:
        if step.augmentation.moves and step.augmentation.geometry is None:
            fitting = [name for name, member in AUGMENTATIONS.items() if member.geometry or not member.moves]
            raise UserError(
                f"data.augment must be of {fitting} for images with masks or boxes, or an Augmentation with a geometry,"
                f" got {step.name!r}. Take one of them"
            )


def _keys(seed: Any, copy: int, batch: Batch) -> jax.Array:
    """Returns one key per example, `[batch]`."""
    # Other generators than threefry, which a flag may make the default, draw by the row under vmap.
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), copy)

    def of_example(index: jax.Array, view: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, index), view)

    return jax.vmap(of_example)(batch["index"], batch["view"])


def _unit(images: jax.Array) -> jax.Array:
    """Returns float32 images in [0, 1]."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images must be uint8 from 0 to 255, or floats from 0 to 1, got {images.dtype}")
    return images.astype(jnp.float32)


def _standardise(mean: Sequence[float], std: Sequence[float]) -> Callable[[jax.Array], jax.Array]:
    valid = len(mean) == len(std) > 0 and all(map(math.isfinite, [*mean, *std])) and min(std) > 0
    if not valid:
        raise UserError(f"mean={mean}, std={std}: give both per channel, for images in [0, 1], std above 0")
    centre, scale = (np.asarray(x, np.float32).reshape(1, 1, 1, -1) for x in (mean, std))

    def standardise(images: jax.Array) -> jax.Array:
        if images.shape[-1] != len(mean):
            raise UserError(f"images have {images.shape[-1]} channels, mean and std are for {len(mean)}: {mean}")
        return (images - centre) / scale

    return standardise
