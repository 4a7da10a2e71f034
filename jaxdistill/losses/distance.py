"""Norms, distances and correlations whose gradients are finite everywhere, also at zero and at equality."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Scalar

Axis = int | tuple[int, ...]


def norm(x: Float[Array, "..."], axis: Axis = -1, keepdims: bool = False) -> Float[Array, "..."]:
    """Returns the L2 norm; its gradient at 0, which does not exist, is 0."""
    square = jnp.sum(x * x, axis, keepdims=keepdims)
    is_positive = square > 0
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, square, 1.0)), 0.0)


def normalize(x: Float[Array, "*shape"], axis: Axis = -1, eps: Scalar = 0.0) -> Float[Array, "*shape"]:
    """Returns `x / (norm + eps)`; 0, with zero gradient, for a norm of 0."""
    size = norm(x, axis, keepdims=True)
    return jnp.where(size > 0, x / jnp.where(size > 0, size + eps, 1.0), 0.0)


def cosine(left: Float[Array, "*shape"], right: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "..."]:
    """Returns the cosine between vectors along `axis`, which it removes; 0 if a vector is 0."""
    return jnp.sum(normalize(left, axis) * normalize(right, axis), axis)


def mean_squared(left: Float[Array, " batch *shape"], right: Float[Array, " batch *shape"]) -> Float[Array, " batch"]:
    """Returns the mean squared difference over all axes but the first."""
    return jnp.mean((left - right) ** 2, axis=tuple(range(1, left.ndim)))
