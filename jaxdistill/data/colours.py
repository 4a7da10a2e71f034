"""Colours of one image `[height, width, channels]`, float32 in [0, 1], changed as torchvision defines it.

Each operation is that of `torchvision.transforms.functional` on float tensors. A factor of 1 leaves an image as it is,
and 0 gives the other image of the blend. Grey images have no saturation and no hue, and stay unchanged. The luminance
is `core.LUMINANCE`; torchvision's first weight is 0.2989.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdistill.core import LUMINANCE

LEVELS = 256
"""Values of a channel of 8 bits, in which `equalize` and `posterize` count."""


def convert_to_grey(image: jax.Array) -> jax.Array:
    """Returns the luminance, `[height, width, 1]`."""
    return image if image.shape[-1] != len(LUMINANCE) else image @ jnp.array(LUMINANCE, image.dtype)[:, None]


def blend(image: jax.Array, base: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Returns `factor image + (1 - factor) base`, clipped to [0, 1]."""
    return jnp.clip(factor * image + (1 - factor) * base, 0.0, 1.0)


def adjust_brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with black."""
    return blend(image, jnp.zeros_like(image), factor)


def adjust_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with the mean of the grey image."""
    return blend(image, jnp.mean(convert_to_grey(image)), factor)


def adjust_saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with the grey image."""
    return blend(image, convert_to_grey(image), factor)


def adjust_hue(image: jax.Array, shift: jax.Array | float) -> jax.Array:
    """Turns the hue by a fraction of the circle."""
    if image.shape[-1] != 3:
        return image
    largest, smallest = jnp.max(image, -1), jnp.min(image, -1)
    spread = largest - smallest
    safe = jnp.where(spread == 0, 1.0, spread)
    red, green, blue = ((largest - image[..., i]) / safe for i in range(3))
    hue = jnp.where(
        largest == image[..., 0],
        blue - green,
        jnp.where(largest == image[..., 1], 2.0 + red - blue, 4.0 + green - red),
    )
    hue = (jnp.where(spread == 0, 0.0, hue) / 6.0 + shift) % 1.0
    saturation = spread / jnp.where(largest == 0, 1.0, largest)
    # The distance of each channel from the hue, on a circle of six parts.
    parts = jnp.stack([(start + 6.0 * hue) % 6.0 for start in (5.0, 3.0, 1.0)], -1)
    weight = jnp.clip(jnp.minimum(parts, 4.0 - parts), 0.0, 1.0)
    return largest[..., None] * (1 - saturation[..., None] * weight)


def adjust_sharpness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with the image smoothed by 3 x 3 pixels, the middle one five times; the border stays."""
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    rows = [image[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    inner = (sum(rows) + 4 * image[1:-1, 1:-1]) / 13
    return blend(image, image.at[1:-1, 1:-1].set(inner), factor)


def posterize(image: jax.Array, bits: jax.Array | int) -> jax.Array:
    """Keeps the first bits of each value of 8 bits."""
    step = 2.0 ** (8 - bits)
    return jnp.floor(_count_levels(image) / step) * step / (LEVELS - 1)


def solarize(image: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Inverts the values from a threshold on."""
    return jnp.where(image >= threshold, 1 - image, image)


def stretch_contrast(image: jax.Array) -> jax.Array:
    """Stretches each channel to [0, 1]; one of a single value stays."""
    smallest, largest = (reduce(image, (0, 1), keepdims=True) for reduce in (jnp.min, jnp.max))
    return jnp.where(
        largest > smallest, (image - smallest) / jnp.where(largest > smallest, largest - smallest, 1), image
    )


def equalize(image: jax.Array) -> jax.Array:
    """Makes the histogram of each channel of 8 bits flat."""

    def of_channel(values: jax.Array) -> jax.Array:
        levels = _count_levels(values).astype(jnp.int32)
        counts = jnp.zeros(LEVELS, jnp.int32).at[levels.ravel()].add(1)
        last = jnp.max(jnp.where(counts > 0, jnp.arange(LEVELS), 0))
        step = (levels.size - counts[last]) // (LEVELS - 1)
        safe = jnp.maximum(step, 1)
        below = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(counts)[:-1]])
        table = jnp.clip((below + safe // 2) // safe, 0, LEVELS - 1)
        return jnp.where(step == 0, values, table[levels] / (LEVELS - 1))

    return jax.vmap(of_channel, in_axes=-1, out_axes=-1)(image)


def _count_levels(image: jax.Array) -> jax.Array:
    # Values of images of 8 bits are multiples of 1/255 up to rounding.
    return jnp.floor(image * (LEVELS - 1) + 1e-3)


Operation = Callable[[jax.Array, jax.Array], jax.Array]
"""From an image and a number to an image."""


def jitter(
    key: jax.Array, image: jax.Array, brightness: float, contrast: float, saturation: float, hue: float
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue, in an order by chance (torchvision's `ColorJitter`).

    The factors are uniform in `[max(0, 1 - x), 1 + x]`, the turn of the hue in `[-hue, hue]`.
    """
    numbers = jax.random.uniform(jax.random.fold_in(key, 0), (4,))
    order = jax.random.permutation(jax.random.fold_in(key, 1), 4)
    low = jnp.array([max(0.0, 1 - brightness), max(0.0, 1 - contrast), max(0.0, 1 - saturation), -hue])
    high = jnp.array([1 + brightness, 1 + contrast, 1 + saturation, hue])
    factors = low + (high - low) * numbers
    operations: Sequence[Operation] = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
    for place in range(4):
        image = jax.lax.switch(order[place], operations, image, factors[order[place]])
    return image
