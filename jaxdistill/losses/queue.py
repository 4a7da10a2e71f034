"""Queues of features, one for each class, of a fixed size: first in, first out, and random draws from them."""

import jax
import jax.numpy as jnp


def push(queue: jax.Array, pushed: jax.Array, items: jax.Array, there: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Writes items over the oldest, class by class; more than there are slots are dropped.

    Args:
        queue: `[classes, slots, width]`.
        pushed: int `[classes]`, how many items it was given so far.
        items: `[classes, n, width]`.
        there: `[classes, n]`, whether there is such an item.
    """
    slots = queue.shape[1]
    rank = jnp.cumsum(there, 1) - 1
    slot = jnp.where(there & (rank < slots), (pushed[:, None] + rank) % slots, slots)
    queue = jax.vmap(lambda rows, at, new: rows.at[at].set(new, mode="drop"))(queue, slot, items)
    return queue, pushed + jnp.minimum(jnp.sum(there, 1), slots)


def draw(key: jax.Array, queue: jax.Array, pushed: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Draws `count` different items of each class: `[classes * count, width]`, and whether there are such."""
    filled = jnp.arange(queue.shape[1])[None] < pushed[:, None]
    chance, at = jax.lax.top_k(jnp.where(filled, jax.random.uniform(key, filled.shape), -1.0), count)
    return jnp.take_along_axis(queue, at[..., None], 1).reshape(-1, queue.shape[2]), (chance >= 0).reshape(-1)
