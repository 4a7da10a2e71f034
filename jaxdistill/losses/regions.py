"""Features of the pixels of one class, taken together."""

import jax
import jax.numpy as jnp


def members(label: jax.Array, classes: int) -> jax.Array:
    """Writes class indices `[..., height, width]` as 0 or 1, `[..., height, width, classes]`; -1 is of no class."""
    return jax.nn.one_hot(label, classes)


def class_means(x: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Averages the features of each class within each image.

    Args:
        x: `[batch, height, width, channels]`.
        inside: `[batch, height, width, classes]`, as `members` has it.

    Returns:
        `[batch, classes, channels]`, 0 for classes that are not there, and the numbers of pixels `[batch, classes]`.
    """
    inside = inside.astype(x.dtype)
    count = jnp.sum(inside, (1, 2))
    total = jnp.einsum("bhwk,bhwc->bkc", inside, x, precision="highest")
    return total / jnp.maximum(count, 1)[..., None], count
