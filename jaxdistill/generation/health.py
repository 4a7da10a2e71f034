"""Numbers of written texts that show a collapse before the loss does.

A student that learns from its own texts may end in short ones, in ones that repeat themselves, or in a single one; its
loss, which is computed on these texts, falls meanwhile.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdistill.generation.sampler import Written

LENGTH, REPETITION, ENTROPY = "written_length", "written_repetition", "written_entropy"
"""Keys of a line of `metrics.jsonl`."""

AGE = "written_age"
"""Key of the number of steps since the texts of a step were written, of texts that several steps read."""


def summarize(text: Written) -> dict[str, Float[Array, ""]]:
    """Returns means over texts.

    written_length: number of written tokens of a text.
    written_repetition: fraction of the pairs of neighbouring written tokens that a text has more than once, each time
        after the first (1 - distinct-2; Li et al., NAACL 2016, https://arxiv.org/abs/1510.03055).
    written_entropy: nats of a token, the mean of -log q; of texts drawn from q itself its mean is their entropy.
    """
    written = text.log_probs.shape[1]
    tokens, mask = text.tokens[:, -written:], text.answer_mask[:, -written:]
    count = jnp.maximum(jnp.sum(mask), 1)
    return {
        LENGTH: jnp.mean(jnp.sum(mask, 1).astype(jnp.float32)),
        REPETITION: repetition(tokens, mask),
        ENTROPY: -jnp.sum(text.log_probs) / count,
    }


def repetition(tokens: Int[Array, "texts written"], mask: Bool[Array, "texts written"]) -> Float[Array, ""]:
    """Returns the fraction of pairs of neighbouring tokens that have occurred in their text before; 0 without pairs."""
    counted = mask[:, 1:] & mask[:, :-1]
    # Sorted, equal pairs are neighbours; those that do not count are last.
    left, right = (jnp.where(counted, x, jnp.iinfo(jnp.int32).max) for x in (tokens[:, :-1], tokens[:, 1:]))
    left, right = jax.lax.sort((left, right), dimension=1, num_keys=2)
    is_counted = jnp.arange(left.shape[1])[None] < jnp.sum(counted, 1, keepdims=True)
    again = (left[:, 1:] == left[:, :-1]) & (right[:, 1:] == right[:, :-1]) & is_counted[:, 1:]
    return jnp.sum(again) / jnp.maximum(jnp.sum(counted), 1)
