"""Centered kernel alignment: the similarity of two networks' inner values, tap by tap, for any widths and rotations.

Linear CKA of Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019
(arXiv:1905.00414), in the form of Nguyen, Raghu, Kornblith, "Do Wide and Deep Networks Learn the Same Things?", ICLR
2021 (arXiv:2010.15327), which adds up over batches:

    CKA = sum_b HSIC(K_b, L_b) / sqrt(sum_b HSIC(K_b, K_b) sum_b HSIC(L_b, L_b))

where K_b and L_b are the Gram matrices of batch b and HSIC is the unbiased estimator of Song et al., "Feature
Selection via Dependence Maximization", JMLR 2012, so that the size of the batch does not move the result. The
estimator is the inner product of U-centred matrices over n (n - 3) (Székely & Rizzo, "Partial Distance Correlation
with Methods for Dissimilarities", Annals of Statistics 2014), which is the same number with less rounding. A batch
is weighted by its examples, because a split's last one has fewer; batches of one size have equal weights, as in the
paper. Being unbiased, it can leave [0, 1] by a little where features hardly vary together.
"""

import dataclasses
import re
from collections.abc import Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdistill import core

LEAST = 4
"""Least number of examples of a batch: the estimator divides by n (n - 3)."""

FEATURES = 1 << 15
"""Size of a tap per example above which it is averaged over its positions first, so that Gram matrices are cheap."""

FIRST, LAST = ("stem", "embed"), ("final", "pooled")


@struct.dataclass
class Alignments:
    """Sums of HSIC over batches.

    Attributes:
        cross: of both networks, `[taps, reference's taps]`.
        network: of the network with itself, `[taps]`.
        reference: of the reference with itself, `[reference's taps]`.
        taps: names.
        reference_taps: names.
    """

    cross: jax.Array
    network: jax.Array
    reference: jax.Array
    taps: tuple[str, ...] = struct.field(pytree_node=False)
    reference_taps: tuple[str, ...] = struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True)
class CKA:
    """`finish` returns `{"taps": [t], "reference_taps": [r], "cka": [t][r]}`, taps by depth.

    A value is None if a tap, or its partner, is the same for all examples. Batches of fewer than four examples do not
    count. The classes of the networks may differ.
    """

    better, needs_reference, needs_labels, same_classes = None, True, False, False
    is_table = True
    compares_examples = True

    def sums(self, output: core.Output, batch: core.Batch, reference: core.Output) -> Alignments:
        mask = batch["mask"] > 0
        taps, reference_taps = by_depth(output.taps), by_depth(reference.taps)
        left, right = kernels(output, taps, mask), kernels(reference, reference_taps, mask)
        count = jnp.sum(mask).astype(jnp.float32)
        # n / (n (n - 3)): the batch's weight and the estimator's divisor.
        weight = jnp.where(count >= LEAST, 1 / jnp.maximum(count - 3, 1), 0.0)
        return Alignments(
            cross=weight * jnp.matmul(left, right.T, precision="highest"),
            network=weight * jnp.sum(left**2, -1),
            reference=weight * jnp.sum(right**2, -1),
            taps=taps,
            reference_taps=reference_taps,
        )

    def finish(self, sums: Alignments) -> dict[str, list]:
        variances = np.asarray(sums.network)[:, None] * np.asarray(sums.reference)[None]
        values = np.asarray(sums.cross) / np.sqrt(np.where(variances > 0, variances, np.nan))
        table = [[float(value) if np.isfinite(value) else None for value in row] for row in values]
        return {"taps": list(sums.taps), "reference_taps": list(sums.reference_taps), "cka": table}


def by_depth(taps: Iterable[str]) -> tuple[str, ...]:
    """Sorts names of taps by depth: first those of `FIRST`, then by number, at the end those of `LAST`."""

    def depth(tap: str) -> tuple[int, list[tuple[int, int, str]]]:
        words = re.split(r"(\d+)", f"{tap}~")  # which sorts stage1/block0, a part of stage1, before it
        words = [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in words]
        return (tap not in FIRST) + (tap in LAST), words

    return tuple(sorted(taps, key=depth))


def kernels(output: core.Output, taps: Iterable[str], mask: jax.Array) -> jax.Array:
    """Returns each tap's U-centred Gram matrix, flat, 0 for rows that do not count: `[taps, batch * batch]`."""
    matrices = [_u_centre(_features(output.tap(tap)), mask).reshape(-1) for tap in taps]
    return jnp.stack(matrices) if matrices else jnp.zeros((0, mask.size**2))


def _features(x: jax.Array) -> jax.Array:
    """Flattens `[batch, ..., channels]`, averaged over the smallest blocks of positions that make it small enough."""
    x, positions, block = core.precise(x), x.shape[1:-1], 1
    while (
        positions
        and block < max(positions)
        and x.shape[-1] * np.prod([-(-size // block) for size in positions]) > FEATURES
    ):
        block += 1
    if block > 1:
        window = (block,) * len(positions)
        x = nn.avg_pool(x, window, strides=window, padding="SAME", count_include_pad=False)
    return x.reshape(x.shape[0], -1)


def _u_centre(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the Gram matrix of `[batch, features]` with 0 on the diagonal, and mean 0 of every row that counts."""
    count = jnp.sum(mask).astype(x.dtype)
    x = jnp.where(mask[:, None], x, 0.0)
    # Rotations and shifts change nothing; large means would cost precision.
    x = jnp.where(mask[:, None], x - jnp.sum(x, 0, keepdims=True) / jnp.maximum(count, 1), 0.0)
    counted = mask[:, None] & mask[None] & ~jnp.eye(mask.size, dtype=bool)
    gram = jnp.where(counted, jnp.matmul(x, x.T, precision="highest"), 0.0)
    rows = jnp.sum(gram, -1) / jnp.maximum(count - 2, 1)
    total = jnp.sum(rows) / jnp.maximum(count - 1, 1)
    return jnp.where(counted, gram - rows[:, None] - rows[None] + total, 0.0)


METRICS = {"cka": CKA()}
