"""Which tokens of a text count, and losses with one value for each of them."""

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch
from jaxdistill.losses import distance


def there(batch: Batch) -> jax.Array:
    """Returns where a position holds a token and not padding, bool `[batch, length]`; everywhere without a mask."""
    return batch["token_mask"] > 0 if "token_mask" in batch else jnp.ones(batch["tokens"].shape, bool)


def counted(batch: Batch) -> jax.Array:
    """Returns the mask of the tokens of the examples that count, float32 `[batch, length]`."""
    return there(batch) * batch["mask"].astype(jnp.float32)[:, None]


def mean(values: jax.Array, there: jax.Array) -> jax.Array:
    """Averages `[batch, length]` over the tokens of each example: `[batch]`, 0 for one without tokens."""
    there = there > 0
    return jnp.sum(jnp.where(there, values, 0.0), -1) / jnp.maximum(jnp.sum(there, -1), 1).astype(values.dtype)


def squared(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """The mean squared difference of each token's state: `[batch, length, width]` to `[batch, length]`."""
    return jnp.mean((student - teacher) ** 2, -1)


def cosine(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """1 - cosine of each token's states: `[batch, length, width]` to `[batch, length]`, 1 for a state that is 0."""
    return 1 - distance.cosine(student, teacher)
