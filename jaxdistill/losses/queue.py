"""Queues of features, one for each class, of a fixed size: first in, first out, and random draws from them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def push(
    queue: Float[Array, "classes slots width"],
    pushed: Int[Array, " classes"],
    items: Float[Array, "classes n width"],
    exists: Bool[Array, "classes n"],
) -> tuple[Float[Array, "classes slots width"], Int[Array, " classes"]]:
    """Writes items over the oldest, class by class; more than there are slots are dropped.

    Args:
        queue: the items so far.
        pushed: number of items pushed so far.
        items: to be pushed.
        exists: whether there is such an item.
    """
    slots = queue.shape[1]
    rank = jnp.cumsum(exists, 1) - 1
    slot = jnp.where(exists & (rank < slots), (pushed[:, None] + rank) % slots, slots)
    queue = jax.vmap(lambda rows, slots, new: rows.at[slots].set(new, mode="drop"))(queue, slot, items)
    return queue, pushed + jnp.minimum(jnp.sum(exists, 1), slots)


def draw(
    key: Key[Array, ""], queue: Float[Array, "classes slots width"], pushed: Int[Array, " classes"], count: int
) -> tuple[Float[Array, "drawn width"], Bool[Array, " drawn"]]:
    """Draws `count` different items of each class, and returns them with whether they exist."""
    filled = jnp.arange(queue.shape[1])[None] < pushed[:, None]
    chance, slot = jax.lax.top_k(jnp.where(filled, jax.random.uniform(key, filled.shape), -1.0), count)
    return jnp.take_along_axis(queue, slot[..., None], 1).reshape(-1, queue.shape[2]), (chance >= 0).reshape(-1)
