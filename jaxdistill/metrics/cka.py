"""How alike two networks' inner values are, tap by tap, whatever their widths and rotations.

Linear CKA of Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019
(arXiv:1905.00414), in the form of Nguyen, Raghu, Kornblith, "Do Wide and Deep Networks Learn the Same Things?", ICLR
2021 (arXiv:2010.15327), which adds up over batches:

    CKA = sum_b HSIC(K_b, L_b) / sqrt(sum_b HSIC(K_b, K_b) sum_b HSIC(L_b, L_b))

where K_b and L_b are the Gram matrices of batch b and HSIC is the unbiased estimator of Song et al., "Feature
Selection via Dependence Maximization", JMLR 2012, so that the size of the batch does not move the result. The
estimator is the inner product of U-centred matrices over n (n - 3) (Székely & Rizzo, "Partial Distance Correlation
with Methods for Dissimilarities", Annals of Statistics 2014), which is the same number with less rounding. A batch
weighs by its examples, for a split's last one to count by what it has; batches of one size weigh alike, as in the
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
"""Examples that a batch must have: the estimator divides by n (n - 3)."""

FEATURES = 1 << 15
"""Numbers of a tap per example above which it is averaged over its places first, for a Gram matrix to cost little."""

FIRST, LAST = ("stem", "embed"), ("final", "pooled")


@struct.dataclass
class Alignments:
    """Sums of HSIC over batches.

    Attributes:
        cross: `[own taps, reference's taps]`.
        own: `[own taps]`.
        reference: `[reference's taps]`.
        taps, reference_taps: their names.
    """

    cross: jax.Array
    own: jax.Array
    reference: jax.Array
    taps: tuple[str, ...] = struct.field(pytree_node=False)
    reference_taps: tuple[str, ...] = struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True)
class CKA:
    """`finish` gives `{"taps": [t], "reference_taps": [r], "cka": [t][r]}`, taps by depth.

    A tap's value is None where it, or its partner, is the same for all examples. Batches of fewer than four examples
    count nowhere. The classes of the networks may differ.
    """

    better, needs_reference, needs_labels, same_classes = None, True, False, False
    compares_examples = True

    def sums(self, output, batch, reference):
        mask = batch["mask"] > 0
        taps, reference_taps = by_depth(output.taps), by_depth(reference.taps)
        own, other = kernels(output, taps, mask), kernels(reference, reference_taps, mask)
        count = jnp.sum(mask).astype(jnp.float32)
        # n / (n (n - 3)): the batch's weight and the estimator's divisor.
        weight = jnp.where(count >= LEAST, 1 / jnp.maximum(count - 3, 1), 0.0)
        return Alignments(
            cross=weight * jnp.matmul(own, other.T, precision="highest"),
            own=weight * jnp.sum(own**2, -1),
            reference=weight * jnp.sum(other**2, -1),
            taps=taps,
            reference_taps=reference_taps,
        )

    def finish(self, sums) -> dict[str, list]:
        variances = np.asarray(sums.own)[:, None] * np.asarray(sums.reference)[None]
        values = np.asarray(sums.cross) / np.sqrt(np.where(variances > 0, variances, np.nan))
        table = [[float(value) if np.isfinite(value) else None for value in row] for row in values]
        return {"taps": list(sums.taps), "reference_taps": list(sums.reference_taps), "cka": table}


def by_depth(taps: Iterable[str]) -> tuple[str, ...]:
    """Sorts names of taps as the models mean them: what comes first, then by number, then what comes last."""

    def place(tap):
        words = re.split(r"(\d+)", f"{tap}~")  # which sorts stage1/block0, a part of stage1, before it
        words = [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in words]
        return (tap not in FIRST) + (tap in LAST), words

    return tuple(sorted(taps, key=place))


def kernels(output: core.Output, taps: Iterable[str], mask: jax.Array) -> jax.Array:
    """Returns each tap's U-centred Gram matrix, flat and 0 where a row does not count: `[taps, batch * batch]`."""
    found = [_u_centred(_features(output.tap(tap)), mask).reshape(-1) for tap in taps]
    return jnp.stack(found) if found else jnp.zeros((0, mask.size**2))


def _features(x: jax.Array) -> jax.Array:
    """Flattens `[batch, ..., channels]`, averaged over the least blocks of places that make it small enough."""
    x, places, block = core.precise(x), x.shape[1:-1], 1
    while places and block < max(places) and x.shape[-1] * np.prod([-(-size // block) for size in places]) > FEATURES:
        block += 1
    if block > 1:
        window = (block,) * len(places)
        x = nn.avg_pool(x, window, strides=window, padding="SAME", count_include_pad=False)
    return x.reshape(x.shape[0], -1)


def _u_centred(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The Gram matrix of `[batch, features]` with 0 on the diagonal and the mean of every row that counts 0."""
    count = jnp.sum(mask).astype(x.dtype)
    x = jnp.where(mask[:, None], x, 0.0)
    # Rotations and shifts change nothing; large means would cost precision.
    x = jnp.where(mask[:, None], x - jnp.sum(x, 0, keepdims=True) / jnp.maximum(count, 1), 0.0)
    there = mask[:, None] & mask[None] & ~jnp.eye(mask.size, dtype=bool)
    gram = jnp.where(there, jnp.matmul(x, x.T, precision="highest"), 0.0)
    rows = jnp.sum(gram, -1) / jnp.maximum(count - 2, 1)
    whole = jnp.sum(rows) / jnp.maximum(count - 1, 1)
    return jnp.where(there, gram - rows[:, None] - rows[None] + whole, 0.0)


METRICS = {"cka": CKA()}
