"""How the examples of a batch lie to each other: Gram matrices, distances, angles and alignment of kernels.

Functions take `[batch, ...]` and the examples' mask. Rows that do not count are 0 before anything is compared, so that
they may hold anything, and what is compared with them is left out of every sum.
"""

import jax
import jax.numpy as jnp

from jaxdistill.losses import distance


def rows(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Flattens `[batch, ...]` to `[batch, features]`; rows that do not count are 0, with zero gradient."""
    return jnp.where(mask[:, None] > 0, x.reshape(x.shape[0], -1), 0.0)


def gram(x: jax.Array) -> jax.Array:
    """Inner products of every two rows: `[batch, features]` to `[batch, batch]`."""
    return jnp.matmul(x, x.T, precision="highest")


def share(entries: jax.Array, mask: jax.Array) -> jax.Array:
    """Each row's part of a mean over pairs, triples, ... of the rows that count.

    Args:
        entries: `[batch, batch, ...]`, every axis over the batch.

    Returns:
        `[batch]`; its mean over the rows that count is the mean over their B^2, B^3, ... tuples.
    """
    count = jnp.maximum(jnp.sum(mask > 0), 1).astype(entries.dtype)
    while entries.ndim > 1:
        there = (mask > 0).reshape((1,) * (entries.ndim - 1) + (-1,))
        entries = jnp.sum(jnp.where(there, entries, 0.0), -1) / count
    return entries


def differences(x: jax.Array) -> jax.Array:
    """`x_j - x_i` for every i and j: `[batch, features]` to `[batch, batch, features]`.

    A Gram matrix would do with less memory, but its rounding is that of the squared norms: near ones would be lost.
    """
    return x[None] - x[:, None]


def distances(x: jax.Array, mask: jax.Array, squared: bool = False) -> jax.Array:
    """Distances of every two rows over the mean of those that are greater than 0.

    Args:
        x: `[batch, features]`, of `rows`.

    Returns:
        `[batch, batch]`, 0 where all rows that count are the same.
    """
    between = differences(x)
    size = jnp.sum(between**2, -1) if squared else distance.norm(between)
    pairs = (mask[:, None] > 0) & (mask[None] > 0) & (size > 0)
    mean = jnp.sum(jnp.where(pairs, size, 0.0)) / jnp.maximum(jnp.sum(pairs), 1)
    return jnp.where(mean > 0, size / jnp.where(mean > 0, mean, 1.0), 0.0)


def angles(x: jax.Array) -> jax.Array:
    """Cosines of the angles at i between j and k: `[batch, features]` to `[batch, batch, batch]`, 0 for equal rows."""
    direction = distance.normalize(differences(x))
    return jnp.einsum("ijd,ikd->ijk", direction, direction, precision="highest")


def cka(left: jax.Array, right: jax.Array, mask: jax.Array) -> jax.Array:
    """Linear centred kernel alignment, <K, L> / (||K|| ||L||) of the Gram matrices K, L of centred features.

    Args:
        left: `[batch, ...]`.
        right: `[batch, ...]`, of any other size.

    Returns:
        `[batch]`; the mean over the rows that count is the alignment, from 0 to 1; 0 where one side is constant.
    """
    left, right = (_centred_kernel(x, mask) for x in (left, right))
    return share(left * right, mask) * jnp.maximum(jnp.sum(mask > 0), 1).astype(left.dtype) ** 2


def _centred_kernel(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Of norm 1, or 0."""
    x = rows(x, mask)
    mean = jnp.sum(x, 0, keepdims=True) / jnp.maximum(jnp.sum(mask > 0), 1).astype(x.dtype)
    return distance.normalize(gram(rows(x - mean, mask)), axis=(0, 1))
