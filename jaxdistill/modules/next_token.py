"""Alignment of next tokens with the logits that predict them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Num

from jaxdistill.core import Batch


def next_token(
    tokens: jax.Array,
    mask: jax.Array,
    token_mask: jax.Array | None = None,
    answer_mask: jax.Array | None = None,
    *,
    segment: jax.Array | None = None,
    document: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns the label of the logits at each position, and the positions that count.

    Args:
        tokens: int `[batch, length]`.
        mask: `[batch]`, above 0 for real examples.
        token_mask: `[batch, length]`, above 0 for tokens, 0 for padding on either side; `None` if all are tokens.
        answer_mask: `[batch, length]`, above 0 for tokens to be learned; `None` if all are.
        segment: int `[batch, length]`, the part of the text that each token is of; `None` if a text is one part.
        document: int `[batch, length]`, the text that each token is of; `None` if a row is one text.

    Returns:
        label: int `[batch, length]`, the token after this one (0 after the last).
        valid: float32 `[batch, length]`, 1 where this position and the next hold tokens of one part of one text, and
            the next is to be learned.
    """
    counts = jnp.broadcast_to(mask[:, None] > 0, tokens.shape)
    is_token = counts if token_mask is None else counts & (token_mask > 0)
    is_learned = is_token if answer_mask is None else is_token & (answer_mask > 0)
    valid = is_token & _shift(is_learned)
    for part in (segment, document):
        if part is not None:
            valid &= part == _shift(part)
    return _shift(tokens), valid.astype(jnp.float32)


def align_next_tokens(batch: Batch) -> Batch:
    """Returns a batch of tokens with `label` and `valid` `[batch, length]`, as `next_token` defines them.

    `teacher_valid` is added likewise if the teacher reads other tokens, `teacher_tokens` with masks of that prefix.
    """

    def aligned(prefix: str) -> tuple[jax.Array, jax.Array]:
        masks = (batch.get(f"{prefix}{name}") for name in ("token_mask", "answer_mask"))
        parts = {name: batch.get(f"{prefix}{name}") for name in ("segment", "document")}
        return next_token(batch[f"{prefix}tokens"], batch["mask"], *masks, **parts)

    label, valid = aligned("")
    teacher = {"teacher_valid": aligned("teacher_")[1]} if "teacher_tokens" in batch else {}
    return dict(batch) | {"label": label, "valid": valid} | teacher


def partners(
    student: Num[Array, "batch left"] | Bool[Array, "batch left"],
    teacher: Num[Array, "batch right"] | Bool[Array, "batch right"],
) -> tuple[Int[Array, "batch left"], Bool[Array, "batch left"]]:
    """Pairs the k-th position that counts in one sequence with the k-th that counts in another.

    Args:
        student: above 0 for positions that count.
        teacher: the same.

    Returns:
        position: of the partner; 0 or any other if there is none.
        has_partner: whether there is one.
    """
    rank = jnp.cumsum(student > 0, 1) - 1
    first = jnp.argsort(teacher <= 0, 1, stable=True)  # the positions that count, in order, before all others
    position = jnp.take_along_axis(first, jnp.clip(rank, 0, teacher.shape[1] - 1), 1)
    return position, (student > 0) & (rank < jnp.sum(teacher > 0, 1, keepdims=True))


def _shift(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x[:, 1:], jnp.zeros_like(x[:, :1])], axis=1)
