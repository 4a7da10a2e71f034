"""Augmentation on the device, inside the jitted step, so that teacher and student see the same image.

**Nothing here is random but by name.** The key of an example is a function of

    (seed, number of the copy, index of the example, number of the view, name of the transform)

and of nothing else: not of the step, the batch, the batch's size, the row or the device. The same example
in the same view is the same image (to float rounding) wherever and whenever it appears, so what a teacher
said about it can be cached once and replayed later. The same transform listed twice draws twice.

Transforms are listed by name with their numbers, `("pad_crop:4", "flip", "cutout:8")`, and are applied in
that order to images in [0, 1], before standardisation: what is filled with 0 is black. A transform is a
function `(key, image, *numbers) -> image` of one image `[height, width, channels]`.

`mixup` and `cutmix` mix two finished images, so there is at most one of them and it is listed last. The
partner is the batch reversed: batches are in random order already, so a permutation would add nothing but
a key that is no example's. A mixed image is a function of both examples, so a replay needs the same pairs,
that is the same batches.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.core import Batch
from jaxdistill.errors import UserError, unknown


def pad_crop(key: jax.Array, image: jax.Array, pad: int) -> jax.Array:
    """Pads by `pad` black pixels on each side and crops the old size at one of `(2 pad + 1)^2` places."""
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    row, column = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    # Twice as fast on CPU as gathering by index arrays, ten times as fast as one-hot matrices.
    return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)


def flip(key: jax.Array, image: jax.Array) -> jax.Array:
    """Mirrors left and right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def rotate(key: jax.Array, image: jax.Array, degrees: float) -> jax.Array:
    """Rotates about the centre by an angle uniform in `[-degrees, degrees]`."""
    return turn(image, jax.random.uniform(key, minval=-degrees, maxval=degrees))


def turn(image: jax.Array, degrees: jax.Array | float) -> jax.Array:
    """Rotates counter-clockwise about the centre, bilinearly, black from outside; 0 degrees change no bit."""
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
    square may hang over the border. Where we differ: an odd side is honoured (theirs becomes `side - 1`),
    and the square is black before standardisation (theirs is 0 after it, the mean colour), because all
    transforms here work on images in [0, 1].
    """
    height, width, _ = image.shape
    centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    return jnp.where(_window(image, centre, (side, side)), 0.0, image)


def mixup(key: jax.Array, image: jax.Array, partner: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Returns `share * image + (1 - share) * partner`, and the share, drawn from Beta(alpha, alpha).

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412,
    section 1. The share is each example's own; the authors' code draws one for a whole batch, which would
    be no function of the example.
    """
    share = jax.random.beta(key, alpha, alpha)
    return share * image + (1 - share) * partner, share


def cutmix(key: jax.Array, image: jax.Array, partner: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of the partner over the image; returns it, and the share of the pixels that are its own.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV
    2019, https://arxiv.org/abs/1905.04899, equations 1 and 2. The box has the area `1 - Beta(alpha, alpha)`
    before the border cuts it; the share is counted afterwards, as in the authors' code. Where we differ:
    every example draws its own share and box (theirs: every batch), a box of odd side is honoured (theirs
    loses a pixel), and every image is mixed (theirs: half of the batches on CIFAR).
    """
    share_key, centre_key = jax.random.split(key)
    height, width, _ = image.shape
    ratio = jnp.sqrt(1 - jax.random.beta(share_key, alpha, alpha))
    centre = jax.random.randint(centre_key, (2,), 0, jnp.array([height, width]))
    pasted = _window(image, centre, ((height * ratio).astype(int), (width * ratio).astype(int)))
    return jnp.where(pasted, partner, image), 1 - jnp.mean(pasted, dtype=jnp.float32)


def _window(image: jax.Array, centre: jax.Array, sides: Sequence[jax.Array | int]) -> jax.Array:
    """Returns `[height, width, 1]`, true in the box of these sides about the centre, cut at the border."""

    def inside(length, middle, side):
        start = middle - side // 2
        return (jnp.arange(length) >= start) & (jnp.arange(length) < start + side)

    rows, columns = (inside(*each) for each in zip(image.shape[:2], centre, sides, strict=True))
    return (rows[:, None] & columns[None, :])[..., None]


class _Transform(NamedTuple):
    apply: Callable
    takes: str
    example: str
    types: tuple[type, ...] = ()
    holds: Callable[..., bool] = lambda: True


_OF_ONE = {
    "pad_crop": _Transform(pad_crop, "a number of pixels, 1 or more", "pad_crop:4", (int,), lambda pad: pad >= 1),
    "flip": _Transform(flip, "no number", "flip"),
    "rotate": _Transform(rotate, "degrees from 0 to 180", "rotate:15", (float,), lambda most: 0 <= most <= 180),
    "jitter": _Transform(
        jitter,
        "brightness and contrast, both from 0 to 1",
        "jitter:0.2,0.2",
        (float, float),
        lambda brightness, contrast: 0 <= brightness <= 1 and 0 <= contrast <= 1,
    ),
    "cutout": _Transform(cutout, "a side in pixels, 1 or more", "cutout:8", (int,), lambda side: side >= 1),
}
_ALPHA = ((float,), lambda alpha: 0 < alpha < math.inf)
_OF_TWO = {
    "mixup": _Transform(mixup, "the alpha of Beta(alpha, alpha), above 0", "mixup:0.2", *_ALPHA),
    "cutmix": _Transform(cutmix, "the alpha of Beta(alpha, alpha), above 0", "cutmix:1.0", *_ALPHA),
}
_TRANSFORMS = _OF_ONE | _OF_TWO
MIXING = tuple(_OF_TWO)
"""The names of those that make an image of two."""


def build(
    names: Sequence[str],
    *,
    seed: int,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    views: int = 1,
) -> Callable[[Batch], Batch]:
    """Returns the augmentation of a training batch, ready for `jit`, and for a batch sharded over its rows.

    It takes `image`, uint8 or float in [0, 1], `[batch, height, width, channels]`, `label`
    (`core.UNLABELLED` where hidden), `index` and `view`, int32 `[batch]`, and `mask`, float32 `[batch]`;
    other keys pass unchanged. It returns `image` as `(x - mean) / std` in float32. Where images are mixed,
    `label` becomes float32 `[batch, classes]`, 0 everywhere if either of the two is unlabelled, and `mask`
    the product of the two masks.

    Args:
        names: the transforms in order, as `"flip"` or `"jitter:0.2,0.2"`; may be empty.
        seed: of the augmentation alone; keys are derived as the module says.
        classes: how many, for soft labels.
        mean: of each channel, of images in [0, 1].
        std: likewise.
        views: how many independently augmented copies to return, as `image`, `image2`, `image3`.

    Raises:
        UserError: for an unknown transform, wrong numbers, a mixing transform that is not last or meets
            `views > 1`, a mean or std that makes no sense; while tracing, for images of another type or
            other channels.
    """
    if views < 1:
        raise UserError(f"views={views} makes no sense; it is the number of augmented copies, 1 or more")
    steps, mix = _parse_all(names)
    if mix and views > 1:
        raise UserError(f"{names[-1]!r} gives one image and one soft label, not views={views}; drop one of the two")
    standardise = _standardise(mean, std)

    def augment_one(key, image):
        keys = core.fold_in(key, steps)
        for name, apply in steps.items():
            image = apply(keys[name], image)
        return image

    def augment(batch: Batch) -> Batch:
        result = dict(batch)
        for copy in range(views):
            keys = _keys(seed, copy, batch)
            images = jax.vmap(augment_one)(keys, _unit(batch["image"]))
            for name, apply in mix.items():
                images, result["label"], result["mask"] = _mix(name, apply, keys, images, batch, classes)
            result[f"image{copy + 1}" if copy else "image"] = standardise(images)
        return result

    return augment


def plain(mean: Sequence[float], std: Sequence[float]) -> Callable[[Batch], Batch]:
    """Returns what `build` does without its transforms: `image` as standardised float32, for evaluation."""
    standardise = _standardise(mean, std)
    return lambda batch: {**batch, "image": standardise(_unit(batch["image"]))}


def _parse_all(names: Sequence[str]) -> tuple[dict[str, Callable], dict[str, Callable]]:
    """Returns the transforms of one image and those of two, none or one, as `{"flip/0": apply}` in order.

    The number counts transforms of the same name, so that adding another transform changes no key.
    """
    if isinstance(names, str):
        raise UserError(f"augmentations are a list of names, not the string {names!r}; write ({names!r},)")
    found = {"steps": {}, "mix": {}}
    for place, text in enumerate(names):
        name, apply = _parse(text)
        if name in _OF_TWO and place < len(names) - 1:
            raise UserError(
                f"augmentation {text!r} mixes two finished images: list it last, and only one of "
                f"{sorted(_OF_TWO)}; here {names[place + 1]!r} follows it"
            )
        kind = found["mix" if name in _OF_TWO else "steps"]
        kind[f"{name}/{sum(other.startswith(name) for other in kind)}"] = apply
    return found["steps"], found["mix"]


def _parse(text: str) -> tuple[str, Callable]:
    if not isinstance(text, str):
        raise UserError(f"augmentation {text!r} is no name with numbers, as in {_TRANSFORMS['cutout'].example!r}")
    name, colon, rest = text.partition(":")
    if name not in _TRANSFORMS:
        raise unknown("augmentation", name, _TRANSFORMS)
    transform = _TRANSFORMS[name]
    try:
        pairs = zip(transform.types, rest.split(",") if colon else (), strict=True)
        numbers = [read(word) for read, word in pairs]
        valid = transform.holds(*numbers)
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"augmentation {text!r}: {name} takes {transform.takes}, as in {transform.example!r}")
    return name, lambda key, *images: transform.apply(key, *images, *numbers)


def _keys(seed: int, copy: int, batch: Batch) -> jax.Array:
    """Returns one key per example, `[batch]`."""
    # Other generators than threefry, which a flag may make the default, draw by the row under vmap.
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), copy)

    def of_example(index, view):
        return jax.random.fold_in(jax.random.fold_in(key, index), view)

    return jax.vmap(of_example)(batch["index"], batch["view"])


def _mix(name: str, apply: Callable, keys: jax.Array, images: jax.Array, batch: Batch, classes: int):
    """Mixes every row with that of the reversed batch; returns images, soft labels and mask."""
    keys = jax.vmap(lambda key: core.fold_in(key, [name])[name])(keys)
    images, shares = jax.vmap(apply)(keys, images, images[::-1])
    labels, others = batch["label"], batch["label"][::-1]
    own, other = jax.nn.one_hot(labels, classes), jax.nn.one_hot(others, classes)
    soft = shares[:, None] * own + (1 - shares[:, None]) * other
    known = (labels != core.UNLABELLED) & (others != core.UNLABELLED)
    return images, jnp.where(known[:, None], soft, 0.0), batch["mask"] * batch["mask"][::-1]


def _unit(images: jax.Array) -> jax.Array:
    """Returns float32 images in [0, 1]."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images of type {images.dtype}; give uint8 from 0 to 255, or floats from 0 to 1")
    return images.astype(jnp.float32)


def _standardise(mean: Sequence[float], std: Sequence[float]) -> Callable[[jax.Array], jax.Array]:
    valid = len(mean) == len(std) > 0 and all(map(math.isfinite, [*mean, *std])) and min(std) > 0
    if not valid:
        raise UserError(f"mean={mean}, std={std}: give both per channel, for images in [0, 1], std above 0")
    centre, scale = (np.asarray(each, np.float32).reshape(1, 1, 1, -1) for each in (mean, std))

    def standardise(images):
        if images.shape[-1] != len(mean):
            raise UserError(f"images have {images.shape[-1]} channels, mean and std are for {len(mean)}: {mean}")
        return (images - centre) / scale

    return standardise
