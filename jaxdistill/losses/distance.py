"""Norms, distances and correlations whose gradients are finite everywhere, at zero and at equality too."""

import jax
import jax.numpy as jnp

Axis = int | tuple[int, ...]


def norm(x: jax.Array, axis: Axis = -1, keepdims: bool = False) -> jax.Array:
    """The L2 norm; its gradient at 0, which does not exist, is 0."""
    square = jnp.sum(x * x, axis, keepdims=keepdims)
    there = square > 0
    return jnp.where(there, jnp.sqrt(jnp.where(there, square, 1.0)), 0.0)


def normalize(x: jax.Array, axis: Axis = -1, eps: float = 0.0) -> jax.Array:
    """`x / (norm + eps)`; where the norm is 0 the result is 0, with zero gradient."""
    size = norm(x, axis, keepdims=True)
    return jnp.where(size > 0, x / jnp.where(size > 0, size + eps, 1.0), 0.0)


def cosine(left: jax.Array, right: jax.Array, axis: int = -1) -> jax.Array:
    """The cosine between vectors along `axis`, which it removes; 0 with a vector that is 0."""
    return jnp.sum(normalize(left, axis) * normalize(right, axis), axis)


def mean_squared(left: jax.Array, right: jax.Array) -> jax.Array:
    """The mean squared difference over all axes but the first: `[batch, ...]` to `[batch]`."""
    return jnp.mean((left - right) ** 2, axis=tuple(range(1, left.ndim)))
