"""Augmentations that draw what they do: RandAugment, and rectangles that are erased."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdistill.data import colours, geometry

MOST = 30
"""The largest magnitude, as in torchvision's 31 bins."""

SHEAR, TURN, SHIFT, CHANGE = 0.3, 30.0, 150 / 331, 0.9
"""Changes at the largest magnitude: of shears, of rotations in degrees, of shifts as a fraction, of colours."""

AREA, ASPECT = (0.02, 0.33), (0.3, 3.3)
"""Area and aspect ratio of an erased rectangle."""

MOVES = 5
"""Number of operations that move pixels: two shears, two shifts and a rotation."""

COLOURS: tuple[Callable[[jax.Array, jax.Array], jax.Array], ...] = (
    lambda image, magnitude: image,
    lambda image, magnitude: colours.adjust_brightness(image, 1 + CHANGE * magnitude),
    lambda image, magnitude: colours.adjust_saturation(image, 1 + CHANGE * magnitude),
    lambda image, magnitude: colours.adjust_contrast(image, 1 + CHANGE * magnitude),
    lambda image, magnitude: colours.adjust_sharpness(image, 1 + CHANGE * magnitude),
    lambda image, magnitude: colours.posterize(image, 8 - jnp.round(4 * jnp.abs(magnitude))),
    lambda image, magnitude: colours.solarize(image, 1 - jnp.abs(magnitude)),
    lambda image, magnitude: colours.stretch_contrast(image),
    lambda image, magnitude: colours.equalize(image),
)
"""Operations on colours, from a magnitude in [-1, 1]; the first is none, and serves the moves too."""


def rand_augment(key: jax.Array, image: jax.Array, count: int, magnitude: float) -> jax.Array:
    """Applies so many operations of 14, drawn with equal chances, all at one magnitude from 0 to `MOST`.

    Cubuk, Zoph, Shlens, Le, "RandAugment: Practical automated data augmentation with a reduced search space", 2020,
    https://arxiv.org/abs/1909.13719, with the operations and magnitudes of torchvision's `RandAugment`: nearest pixels,
    and black outside.
    """
    for number in range(count):
        choice_key, sign_key = jax.random.split(jax.random.fold_in(key, number))
        choice = jax.random.randint(choice_key, (), 0, MOVES + len(COLOURS))
        signed = jnp.where(jax.random.bernoulli(sign_key), -1.0, 1.0) * magnitude / MOST
        image = apply(image, choice, signed)
    return image


def apply(image: jax.Array, choice: jax.Array | int, magnitude: jax.Array | float) -> jax.Array:
    """Applies the operation of a number: the first `MOVES` move pixels, others are of `COLOURS`.

    Every operation is computed for each image of a batch, since a compiled program has no branch for each row; the
    moves together are one.
    """
    height, width, _ = image.shape
    zero = jnp.float32(0)
    is_move = [jnp.equal(choice, number) for number in range(MOVES)]
    shear_x, shear_y = (jnp.where(chosen, SHEAR * magnitude, zero) for chosen in is_move[:2])
    right, down = (
        jnp.where(chosen, jnp.trunc(SHIFT * side * magnitude), zero)
        for chosen, side in zip(is_move[2:4], (width, height), strict=True)
    )
    angle = jnp.deg2rad(jnp.where(is_move[4], TURN * magnitude, zero))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    middle = (height - 1) / 2, (width - 1) / 2
    matrix = jnp.stack(
        [
            jnp.stack([cos, sin - shear_y, middle[0] - cos * middle[0] - sin * middle[1] - down]),
            jnp.stack([-sin - shear_x, cos, middle[1] + sin * middle[0] - cos * middle[1] - right]),
        ]
    )
    image = geometry.move_image(image, geometry.Move(matrix, (height, width)))
    return jax.lax.switch(jnp.maximum(choice - MOVES, 0), COLOURS, image, magnitude)


def random_erasing(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Blackens a rectangle with a probability.

    Zhong, Zheng, Kang, Li, Yang, "Random Erasing Data Augmentation", AAAI 2020, https://arxiv.org/abs/1708.04896, with
    area and aspect ratio as in torchvision. Differences: a rectangle that does not fit is cut to the image, where
    torchvision draws another; and it is black before standardisation, not after.
    """
    height, width, _ = image.shape
    numbers = jax.random.uniform(key, (5,))
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * numbers[0])
    ratio = jnp.exp(jnp.log(ASPECT[0]) + (jnp.log(ASPECT[1]) - jnp.log(ASPECT[0])) * numbers[1])
    tall = jnp.clip(jnp.round(jnp.sqrt(area * ratio)), 1, height)
    wide = jnp.clip(jnp.round(jnp.sqrt(area / ratio)), 1, width)
    top, left = jnp.floor(numbers[2] * (height - tall + 1)), jnp.floor(numbers[3] * (width - wide + 1))
    rows, columns = jnp.arange(height), jnp.arange(width)
    inside = ((rows >= top) & (rows < top + tall))[:, None] & ((columns >= left) & (columns < left + wide))[None]
    return jnp.where(inside[..., None] & (numbers[4] < probability), 0.0, image)
