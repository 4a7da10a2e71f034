"""Language models predict the next token: the one place where tokens, labels and masks are shifted against logits."""

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch, Method


def next_token(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Returns what the logits at each position are to predict, and where that counts.

    Args:
        batch: `tokens` `[batch, length]`; `mask` `[batch]` of the examples; where they are there, `token_mask`
            (1 for tokens, 0 for padding) and `answer_mask` (1 for tokens that are to be learned), `[batch, length]`.

    Returns:
        label: int `[batch, length]`, the token after this one (0 after the last).
        valid: float32 `[batch, length]`, whether that one is a token of an example that counts.
    """
    tokens = batch["tokens"]
    counts = jnp.broadcast_to(batch["mask"][:, None], tokens.shape).astype(jnp.float32)
    for name in ("token_mask", "answer_mask"):
        if name in batch:
            counts = counts * batch[name].astype(jnp.float32)
    return _shifted(tokens), _shifted(counts)


def _shifted(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x[:, 1:], jnp.zeros_like(x[:, :1])], axis=1)


class NextToken(Method):
    """A method over the distributions of next tokens, `[batch, length, vocabulary]`: one value per position."""

    domain = "language"

    def valid(self, batch):
        return next_token(batch)[1]
