"""Features of the pixels of each class, averaged."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxdistill.core import UNLABELLED, Batch
from jaxdistill.losses import spatial


def one_hot(label: Int[Array, "... height width"], classes: int) -> Float[Array, "... height width classes"]:
    """Writes class indices as 0 or 1 for each class; -1 is of no class."""
    return jax.nn.one_hot(label, classes)


def pixel_labels(batch: Batch, size: tuple[int, int]) -> Int[Array, "batch height width"]:
    """Returns the labels resized to a map by nearest neighbour, -1 for pixels that are void or have no label.

    Args:
        batch: `label` `[batch, height, width]`, and optionally `valid` of that shape, above 0 for pixels that count.
        size: height and width of the map.
    """
    label, valid = batch["label"], batch.get("valid")
    if valid is not None and valid.shape == label.shape:
        label = jnp.where(valid > 0, label, UNLABELLED)
    return spatial.resize(label, size, "nearest")


def valid_pixels(batch: Batch, size: tuple[int, int]) -> Float[Array, "batch height width"] | None:
    """Returns `batch["valid"]` resized to a map by nearest neighbour, or `None` if it is not per pixel."""
    valid = batch.get("valid")
    return spatial.resize(valid, size, "nearest") if valid is not None and valid.ndim == 3 else None


def class_means(
    x: Float[Array, "batch height width channels"], inside: Shaped[Array, "batch height width classes"]
) -> tuple[Float[Array, "batch classes channels"], Float[Array, "batch classes"]]:
    """Averages the features of each class within each image.

    Args:
        x: a map.
        inside: `one_hot` of its labels.

    Returns:
        Means, 0 for absent classes, and numbers of pixels.
    """
    inside = inside.astype(x.dtype)
    count = jnp.sum(inside, (1, 2))
    total = jnp.einsum("bhwk,bhwc->bkc", inside, x, precision="highest")
    return total / jnp.maximum(count, 1)[..., None], count
