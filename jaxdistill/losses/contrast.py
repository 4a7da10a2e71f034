"""Contrast with what is remembered: noise-contrastive estimation, and a bank with a row for each example."""

import jax
import jax.numpy as jnp

from jaxdistill.losses import distance


def nce(positive: jax.Array, negatives: jax.Array, noise: float, eps: float = 0.0) -> jax.Array:
    """The loss of telling one that is meant from k that are noise.

        - log P / (P + noise) - sum over negatives of log noise / (P + noise)

    Args:
        positive: log P, `[batch]`, of the one.
        negatives: log P, `[batch, k]`, of the others.
        noise: k times the probability of each under the noise.
        eps: added to both denominators, as some do; not needed, nothing is exponentiated that is then logged.

    Returns:
        `[batch]`, nats.
    """
    level = jnp.log(jnp.asarray(noise + eps, positive.dtype))
    rest = negatives.shape[1] * jnp.log1p(jnp.asarray(eps / noise, positive.dtype))
    return jax.nn.softplus(level - positive) + jnp.sum(jax.nn.softplus(negatives - level), 1) + rest


def similarities(features: jax.Array, bank: jax.Array, index: jax.Array) -> jax.Array:
    """Inner products with rows of a bank.

    All of them are computed and some taken: k gathered rows for each example would need more memory than that.

    Args:
        features: `[batch, width]`.
        bank: `[examples, width]`.
        index: `[batch, k]`.

    Returns:
        `[batch, k]`; not a number where an index has no row, so that a loss says so.
    """
    found = jnp.matmul(features, bank.T, precision="highest")
    return jnp.take_along_axis(found, index, 1, mode="fill", fill_value=jnp.nan)


def others(keys: jax.Array, index: jax.Array, count: int, examples: int) -> jax.Array:
    """Draws `count` examples for each example, uniformly among all but itself, with replacement.

    Args:
        keys: `[batch]`, of `core.example_keys`.
        index: `[batch]`.

    Returns:
        `[batch, count]`, int32.
    """
    drawn = jax.vmap(lambda key: jax.random.randint(key, (count,), 0, examples - 1))(keys)
    return drawn + (drawn >= index[:, None])


def refresh(bank: jax.Array, features: jax.Array, index: jax.Array, mask: jax.Array, momentum: float) -> jax.Array:
    """Moves the rows of a batch's examples towards their features and makes them of norm 1 again.

    Args:
        bank: `[examples, width]`.
        features: `[batch, width]`; of an example that is there twice, the mean counts.
        index: `[batch]`.
        mask: `[batch]`; examples that do not count move nothing.
        momentum: how much of the old row is kept.

    Returns:
        `[examples, width]`.
    """
    there = mask > 0
    same = (index[:, None] == index[None]) & there[None]
    count = jnp.maximum(jnp.sum(same, 1, keepdims=True), 1).astype(bank.dtype)
    features = jnp.where(there[:, None], features, 0.0).astype(bank.dtype)
    mean = jnp.matmul(same.astype(bank.dtype), features, precision="highest") / count
    index = jnp.where(there, index, bank.shape[0])
    old = bank.at[index].get(mode="fill", fill_value=0.0)
    return bank.at[index].set(distance.normalize(momentum * old + (1 - momentum) * mean), mode="drop")
