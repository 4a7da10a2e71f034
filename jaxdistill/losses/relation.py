"""Relations between the examples of a batch: Gram matrices, distances, angles and alignment of kernels.

Functions take `[batch, ...]` and the examples' mask. Masked rows are set to 0 before anything is compared, so that they
may hold anything, and pairs with them are left out of every sum.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxdistill.losses import distance


def rows(x: Float[Array, " batch *shape"], mask: Shaped[Array, " batch"]) -> Float[Array, "batch features"]:
    """Flattens all axes but the first; masked rows are 0, with zero gradient."""
    return jnp.where(mask[:, None] > 0, x.reshape(x.shape[0], -1), 0.0)


def gram(x: Float[Array, "batch features"]) -> Float[Array, "batch batch"]:
    """Returns the inner products of every two rows."""
    return jnp.matmul(x, x.T, precision="highest")


def row_means(entries: Float[Array, " batch *others"], mask: Shaped[Array, " batch"]) -> Float[Array, " batch"]:
    """Returns each row's part of a mean over pairs, triples, ... of the rows that count.

    Args:
        entries: every axis over the batch.
        mask: above 0 for rows that count.

    Returns:
        Numbers whose mean over the rows that count is the mean over their B^2, B^3, ... tuples.
    """
    count = jnp.maximum(jnp.sum(mask > 0), 1).astype(entries.dtype)
    while entries.ndim > 1:
        counts = (mask > 0).reshape((1,) * (entries.ndim - 1) + (-1,))
        entries = jnp.sum(jnp.where(counts, entries, 0.0), -1) / count
    return entries


def differences(x: Float[Array, "batch features"]) -> Float[Array, "batch batch features"]:
    """Returns `x_j - x_i` for every i and j.

    A Gram matrix would need less memory, but its rounding is that of the squared norms: small ones would be lost.
    """
    return x[None] - x[:, None]


def distances(
    x: Float[Array, "batch features"], mask: Shaped[Array, " batch"], squared: bool = False
) -> Float[Array, "batch batch"]:
    """Returns the distances of every two rows over their mean, which is that of all pairs of different rows' places.

    Two examples with equal features are at distance 0, and count in the mean.

    Args:
        x: of `rows`.
        mask: above 0 for rows that count.
        squared: whether distances are squared.

    Returns:
        0 everywhere if all rows that count are equal.
    """
    between = differences(x)
    size = jnp.sum(between**2, -1) if squared else distance.norm(between)
    pairs = (mask[:, None] > 0) & (mask[None] > 0) & ~jnp.eye(len(x), dtype=bool)
    mean = jnp.sum(jnp.where(pairs, size, 0.0)) / jnp.maximum(jnp.sum(pairs), 1)
    return jnp.where(mean > 0, size / jnp.where(mean > 0, mean, 1.0), 0.0)


def angles(x: Float[Array, "batch features"]) -> Float[Array, "batch batch batch"]:
    """Returns the cosines of the angles at i between j and k, 0 for equal rows."""
    direction = distance.normalize(differences(x))
    return jnp.einsum("ijd,ikd->ijk", direction, direction, precision="highest")


def cka(
    left: Float[Array, " batch *left"], right: Float[Array, " batch *right"], mask: Shaped[Array, " batch"]
) -> Float[Array, " batch"]:
    """Returns the linear centred kernel alignment, <K, L> / (||K|| ||L||) of the Gram matrices of centred features.

    Args:
        left: features.
        right: features of any size.
        mask: above 0 for rows that count.

    Returns:
        Numbers whose mean over the rows that count is the alignment, from 0 to 1; 0 if one side is constant.
    """
    left, right = (_centred_kernel(x, mask) for x in (left, right))
    return row_means(left * right, mask) * jnp.maximum(jnp.sum(mask > 0), 1).astype(left.dtype) ** 2


def _centred_kernel(x: Float[Array, " batch *shape"], mask: Shaped[Array, " batch"]) -> Float[Array, "batch batch"]:
    """Returns a kernel of norm 1, or 0."""
    x = rows(x, mask)
    mean = jnp.sum(x, 0, keepdims=True) / jnp.maximum(jnp.sum(mask > 0), 1).astype(x.dtype)
    return distance.normalize(gram(rows(x - mean, mask)), axis=(0, 1))
