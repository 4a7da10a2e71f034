"""Spans of bytes that tokens of a student and a teacher share, at the positions of the logits that predict them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from jaxdistill.core import Batch, Logits
from jaxdistill.losses import chunked

SPAN, TEACHER_SPAN = "span", "teacher_span"
"""Fields of a batch, int32 `[batch, length]`: the number of the span that a token is of, -1 for none."""


class Spans(NamedTuple):
    """The spans of texts, at the student's positions; a position is that of the logits that predict a token.

    Attributes:
        number: of the span of the predicted token, -1 unless all its tokens are predicted on both sides.
        is_single: whether the span is one token on both sides.
        is_last: whether it is the last token of a span of several, on either side.
        partner: for a single one the teacher's position; 0 or any other for others.
        teacher_number: the same as `number` at the teacher's positions.
    """

    number: Int[Array, "batch left"]
    is_single: Bool[Array, "batch left"]
    is_last: Bool[Array, "batch left"]
    partner: Int[Array, "batch left"]
    teacher_number: Int[Array, "batch right"]


def has_spans(batch: Batch) -> bool:
    """Whether student and teacher read different tokens, with spans."""
    return SPAN in batch and TEACHER_SPAN in batch


def align(batch: Batch) -> Spans:
    """Returns the spans of a batch with `span`, `valid` and those of the teacher, `[batch, length]` each."""
    left, right = batch[SPAN], batch[TEACHER_SPAN]
    number, teacher_number = (
        _predicted(x, valid) for x, valid in ((left, batch["valid"]), (right, batch["teacher_valid"]))
    )
    size = max(left.shape[1], right.shape[1])
    sizes = count(number, size), count(teacher_number, size)
    is_whole = (sizes[0] > 0) & (sizes[1] > 0) & (sizes[0] == count(left, size)) & (sizes[1] == count(right, size))
    number, teacher_number = (
        jnp.where(spread(is_whole.astype(jnp.int32), x) > 0, x, -1) for x in (number, teacher_number)
    )
    is_single = (number >= 0) & (spread(((sizes[0] == 1) & (sizes[1] == 1)).astype(jnp.int32), number) > 0)
    after = jnp.concatenate([number[:, 1:], jnp.full_like(number[:, :1], -1)], 1)
    position = jnp.broadcast_to(jnp.arange(right.shape[1]), right.shape)
    partner = spread(total(position, teacher_number, size), number)
    return Spans(
        number=number,
        is_single=is_single,
        is_last=(number >= 0) & (number != after) & ~is_single,
        partner=jnp.where(is_single, partner, 0),
        teacher_number=teacher_number,
    )


def _predicted(span: Int[Array, "batch length"], valid: Num[Array, "batch length"]) -> Int[Array, "batch length"]:
    after = jnp.concatenate([span[:, 1:], jnp.full_like(span[:, :1], -1)], 1)
    return jnp.where(valid > 0, after, -1)


def count(number: Int[Array, "batch length"], size: int) -> Int[Array, "batch {size}"]:
    """Returns the number of positions of each span."""
    return total(jnp.ones_like(number), number, size)


def total(
    values: Num[Array, "batch length"], number: Int[Array, "batch length"], size: int
) -> Num[Array, "batch {size}"]:
    """Returns the sum of values over the positions of each span; values of no span may be anything finite."""

    def add(values: jax.Array, number: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values, jnp.where(number < 0, size, number), size + 1)[:size]

    return jax.vmap(add)(values, number)


def spread(values: Num[Array, "batch size"], number: Int[Array, "batch length"]) -> Num[Array, "batch length"]:
    """Returns the value of the span of each position; that of any span for none."""
    return jnp.take_along_axis(values, jnp.maximum(number, 0), 1)


def log_likelihood(logits: Float[Array, "*n classes"], label: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the log-probability of each label, nats."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], -1)[..., 0]


def log_likelihoods(logits: Logits, label: Int[Array, "*n"], chunk: int) -> Float[Array, "*n"]:
    """Returns the log-probability of each label, of logits of any form that lists all classes, `chunk` at a time."""
    return chunked.compare(lambda logits, _, label: log_likelihood(logits, label), logits, None, label, chunk=chunk)
