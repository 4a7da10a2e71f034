"""Masks of tokens, and losses with one value for each token."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from jaxdistill.core import Batch
from jaxdistill.losses import distance


def token_positions(batch: Batch) -> Bool[Array, "batch length"]:
    """Returns the positions that hold a token and not padding; all of them without a `token_mask`."""
    return batch["token_mask"] > 0 if "token_mask" in batch else jnp.ones(batch["tokens"].shape, bool)


def valid_tokens(batch: Batch) -> Float[Array, "batch length"]:
    """Returns the mask of the tokens of real examples."""
    return token_positions(batch) * batch["mask"].astype(jnp.float32)[:, None]


def mean(values: Float[Array, "batch length"], is_token: Shaped[Array, "batch length"]) -> Float[Array, " batch"]:
    """Averages over the tokens of each example, 0 for one without tokens."""
    is_token = is_token > 0
    count = jnp.maximum(jnp.sum(is_token, -1), 1).astype(values.dtype)
    return jnp.sum(jnp.where(is_token, values, 0.0), -1) / count


def squared(
    student: Float[Array, "batch length width"], teacher: Float[Array, "batch length width"]
) -> Float[Array, "batch length"]:
    """Returns the mean squared difference of each token's state."""
    return jnp.mean((student - teacher) ** 2, -1)


def cosine(
    student: Float[Array, "batch length width"], teacher: Float[Array, "batch length width"]
) -> Float[Array, "batch length"]:
    """Returns 1 - cosine of each token's states, 1 for a state that is 0."""
    return 1 - distance.cosine(student, teacher)
