"""Contrastive losses with a memory: noise-contrastive estimation, and a bank with a row for each example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped

from jaxdistill.core import Scalar
from jaxdistill.losses import distance


def nce(
    positive: Float[Array, " batch"], negatives: Float[Array, "batch k"], noise: float, eps: float = 0.0
) -> Float[Array, " batch"]:
    """Returns the loss of classifying one positive against k samples of noise.

        - log P / (P + noise) - sum over negatives of log noise / (P + noise)

    Args:
        positive: log P of the positive.
        negatives: log P of the noise.
        noise: k times the probability of each under the noise.
        eps: added to both denominators, as in some codes; not needed, no exponential is followed by a logarithm.

    Returns:
        Nats.
    """
    level = jnp.log(jnp.asarray(noise + eps, positive.dtype))
    rest = negatives.shape[1] * jnp.log1p(jnp.asarray(eps / noise, positive.dtype))
    return jax.nn.softplus(level - positive) + jnp.sum(jax.nn.softplus(negatives - level), 1) + rest


def similarities(
    features: Float[Array, "batch width"], bank: Float[Array, "examples width"], index: Int[Array, "batch k"]
) -> Float[Array, "batch k"]:
    """Returns inner products with rows of a bank; not a number for an index without a row, so that the loss shows it.

    All of them are computed and some taken: k gathered rows for each example would need more memory than that.
    """
    products = jnp.matmul(features, bank.T, precision="highest")
    return jnp.take_along_axis(products, index, 1, mode="fill", fill_value=jnp.nan)


def draw_others(
    keys: Key[Array, " batch"], index: Int[Array, " batch"], count: int, examples: int
) -> Int[Array, "batch k"]:
    """Draws `count` examples for each example, uniformly among all but itself, with replacement.

    Args:
        keys: of `core.example_keys`.
        index: of the examples.
        count: number of draws, k.
        examples: number of examples to draw from.
    """
    drawn = jax.vmap(lambda key: jax.random.randint(key, (count,), 0, examples - 1))(keys)
    return drawn + (drawn >= index[:, None])


def refresh(
    bank: Float[Array, "examples width"],
    features: Float[Array, "batch width"],
    index: Int[Array, " batch"],
    mask: Shaped[Array, " batch"],
    *,
    momentum: Scalar,
) -> Float[Array, "examples width"]:
    """Moves the rows of a batch's examples towards their features and normalises them to norm 1.

    Args:
        bank: the present rows.
        features: of an example that occurs twice, the mean counts.
        index: of the examples.
        mask: examples with 0 move nothing.
        momentum: fraction of the old row that is kept.
    """
    counts = mask > 0
    same = (index[:, None] == index[None]) & counts[None]
    number = jnp.maximum(jnp.sum(same, 1, keepdims=True), 1).astype(bank.dtype)
    features = jnp.where(counts[:, None], features, 0.0).astype(bank.dtype)
    mean = jnp.matmul(same.astype(bank.dtype), features, precision="highest") / number
    index = jnp.where(counts, index, bank.shape[0])
    old = bank.at[index].get(mode="fill", fill_value=0.0)
    return bank.at[index].set(distance.normalize(momentum * old + (1 - momentum) * mean), mode="drop")
