"""Augmentations that make one image of several: mixup, CutMix and mosaics."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Batch
from jaxdistill.data import geometry


def mixup(key: jax.Array, image: jax.Array, partner: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Returns `fraction * image + (1 - fraction) * partner`, and the fraction, drawn from Beta(alpha, alpha).

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412,
    section 1. Each example has its own fraction; the authors' code draws one for a whole batch, which would
    be no function of the example.
    """
    fraction = jax.random.beta(key, alpha, alpha)
    return fraction * image + (1 - fraction) * partner, fraction


def cutmix(key: jax.Array, image: jax.Array, partner: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of the partner over the image; returns it, and the fraction of the pixels that remain.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV
    2019, https://arxiv.org/abs/1905.04899, equations 1 and 2. The box has the area `1 - Beta(alpha, alpha)`
    before the border cuts it; the fraction is counted afterwards, as in the authors' code. Differences:
    every example draws its own fraction and box (theirs: every batch), a box of odd side is honoured (theirs
    loses a pixel), and every image is mixed (theirs: half of the batches on CIFAR).
    """
    fraction_key, centre_key = jax.random.split(key)
    height, width, _ = image.shape
    ratio = jnp.sqrt(1 - jax.random.beta(fraction_key, alpha, alpha))
    centre = jax.random.randint(centre_key, (2,), 0, jnp.array([height, width]))
    pasted = geometry.find_window(image, centre, ((height * ratio).astype(int), (width * ratio).astype(int)))
    return jnp.where(pasted, partner, image), 1 - jnp.mean(pasted, dtype=jnp.float32)


def mosaic(key: jax.Array, images: jax.Array) -> jax.Array:
    """Cuts one image out of four, `[4, height, width, channels]`, that are put together two by two.

    Bochkovskiy, Wang, Liao, "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020,
    https://arxiv.org/abs/2004.10934, section 3.3. The point where the four meet is uniform over the image. Difference:
    images keep their scale, which `scale` changes beforehand.
    """
    row, column = geometry.draw_offset(key, jnp.array(images.shape[1:3]))
    return geometry.window(images, row, column)


def mix_batch(
    apply: Callable[..., tuple[jax.Array, jax.Array]],
    keys: jax.Array,
    batch: Batch,
    *,
    classes: int,
    mixed: Sequence[str] = (),
) -> dict[str, jax.Array]:
    """Mixes every row with that of the reversed batch; returns images, soft labels and mask.

    Batches are in random order already: a permutation would add only a key that is no example's.

    Args:
        apply: from key, image and partner to the mixed image and the fraction of the first.
        keys: one per row.
        batch: with `image`, `label` and `mask`.
        classes: number of classes of soft labels.
        mixed: fields `[batch, n]` that are mixed instead of the class; NaN, a missing number, is so in both rows.
    """
    images, labels, mask = batch["image"], batch["label"], batch["mask"]
    images, fractions = jax.vmap(apply)(keys, images, images[::-1])
    partners = labels[::-1]
    labelled = (labels != core.UNLABELLED) & (partners != core.UNLABELLED)
    result = {"image": images, "mask": mask * mask[::-1]}

    def blend(left: jax.Array, right: jax.Array) -> jax.Array:
        return fractions[:, None] * left + (1 - fractions[:, None]) * right

    if mixed:
        soft = {name: blend(batch[name], batch[name][::-1]) for name in mixed}
        return result | soft | {"label": jnp.where(labelled, labels, core.UNLABELLED)}
    soft = blend(jax.nn.one_hot(labels, classes), jax.nn.one_hot(partners, classes))
    return result | {"label": jnp.where(labelled[:, None], soft, 0.0)}


def tile_batch(
    apply: Callable[..., jax.Array], tile: Callable[..., Batch], keys: jax.Array, batch: Batch, *, moving: Sequence[str]
) -> dict[str, jax.Array]:
    """Makes a mosaic of every row and the three before it; returns images, dense labels and mask.

    Args:
        apply: from key and images `[4, height, width, channels]` to an image.
        tile: from key and their labels to its labels.
        keys: one per row.
        batch: with `image`, `mask` and the labels.
        moving: fields of the labels.
    """

    def group(array: jax.Array) -> jax.Array:
        return jnp.stack([jnp.roll(array, shift, 0) for shift in range(4)], 1)

    images, labels = group(batch["image"]), {name: group(batch[name]) for name in moving}
    return {"image": jax.vmap(apply)(keys, images), "mask": jnp.prod(group(batch["mask"]), 1)} | jax.vmap(tile)(
        keys, labels
    )
