"""k-means of numbers.

Numbers are in order, so that the nearest of sorted centres is found by bisection, and no distance is computed.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def first_centres(values: Float[Array, " n"], counted: Bool[Array, " n"], size: int) -> Float[Array, " {size}"]:
    """Returns numbers evenly spaced from the smallest to the largest counted value.

    Large weights matter and are few: Han, Mao & Dally, "Deep Compression", ICLR 2016,
    https://arxiv.org/abs/1510.00149, section 3.2, with the smallest loss of three ways.
    """
    low = jnp.min(jnp.where(counted, values, jnp.inf))
    high = jnp.max(jnp.where(counted, values, -jnp.inf))
    some = jnp.any(counted)
    return jnp.linspace(jnp.where(some, low, 0.0), jnp.where(some, high, 0.0), size)


def assign(values: Float[Array, " n"], centres: Float[Array, " k"]) -> Int[Array, " n"]:
    """Returns the index of the nearest centre, of sorted ones."""
    return jnp.searchsorted((centres[1:] + centres[:-1]) / 2, values)


def centre_means(
    values: Float[Array, " n"], counted: Bool[Array, " n"], index: Int[Array, " n"], centres: Float[Array, " k"]
) -> Float[Array, " k"]:
    """Returns the mean of the counted values of each index; a centre without values stays."""
    number = jnp.zeros_like(centres).at[index].add(1.0 * counted)
    total = jnp.zeros_like(centres).at[index].add(jnp.where(counted, values - centres[index], 0.0))
    # Differences from the centre keep digits where all values are near a large number.
    return centres + total / jnp.maximum(number, 1.0)


def k_means(
    values: Float[Array, " n"], counted: Bool[Array, " n"], centres: Float[Array, " k"], iterations: int
) -> Float[Array, " k"]:
    """Returns sorted centres after some iterations of Lloyd's algorithm, none of which increases the squared error."""

    def iterate(_: int, centres: Float[Array, " k"]) -> Float[Array, " k"]:
        return jnp.sort(centre_means(values, counted, assign(values, centres), centres))

    return jax.lax.fori_loop(0, iterations, iterate, jnp.sort(centres))
