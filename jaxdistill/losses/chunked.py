"""Losses over a vocabulary, some predictions at a time: `[tokens, vocabulary]` in float32 never exists.

A chunk's logits are computed where they are compared, and computed again in the backward pass (`jax.checkpoint`), so
that memory holds those of one chunk. It costs one more product of states and kernel on either side.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdistill.core import TopK, Unembedding, precise

Said = jax.Array | Unembedding | TopK
"""What stands for distributions over a vocabulary, `[*n]` of them."""


def dense(said: Said | None) -> jax.Array | TopK | None:
    """Returns the logits of an `Unembedding`, `[*n, vocabulary]`, in at least float32; others as they are."""
    return said.dense() if isinstance(said, Unembedding) else said


def rows(said: Said | None) -> jax.Array | TopK | None:
    """Returns what there is for each prediction, arrays `[*n, ...]`: an `Unembedding` has its `hidden`."""
    return said.hidden if isinstance(said, Unembedding) else said


def with_rows(said: Said, rows: jax.Array | TopK) -> Said:
    """Returns the same with other predictions, `[*m, ...]`."""
    return said.replace(hidden=rows) if isinstance(said, Unembedding) else rows


def compare(
    loss: Callable[..., jax.Array], student: Said, teacher: Said | None, *arrays: jax.Array, chunk: int
) -> jax.Array:
    """Returns `loss(student, teacher, *arrays)`, or any other function, computed for `chunk` predictions at a time.

    A chunk takes every so many-th prediction and not neighbours: where the batch is split over devices, every device
    then has a part of every chunk, if their number divides `chunk`. The last chunk is filled with what comes last.

    Args:
        loss: `(logits [*n, vocabulary], logits or TopK, *arrays [*n, ...]) -> [*n]`, of any number of predictions,
            each for itself. It may return a tree of arrays `[*n, ...]`.
        student: of `[*n]` predictions; logits keep their dtype outside of the chunk.
        teacher: of the same predictions, or `None`.
        arrays: `[*n, ...]`.
        chunk: 0 for all at once.

    Returns:
        `[*n]`, or that tree.
    """
    shape = rows(student).shape[:-1]
    count = math.prod(shape)
    if not 0 < chunk < count:
        return loss(dense(student), dense(teacher), *arrays)
    chunks = -(-count // chunk)

    def fold(x):
        x = x.reshape(count, *x.shape[len(shape) :])
        x = jnp.pad(x, [(0, chunks * chunk - count)] + [(0, 0)] * (x.ndim - 1), mode="edge")
        return jnp.moveaxis(x.reshape(chunk, chunks, *x.shape[1:]), 1, 0)

    own_logits, other_logits = _speaker(student), _speaker(teacher)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(part):
        own, other, *rest = part
        return loss(own_logits(own), other_logits(other), *rest)

    def unfold(x):
        return jnp.moveaxis(x, 0, 1).reshape(chunks * chunk, *x.shape[2:])[:count].reshape(*shape, *x.shape[2:])

    parts = jax.tree.map(fold, (rows(student), rows(teacher), *arrays))
    return jax.tree.map(unfold, jax.lax.map(one, parts))


def _speaker(said: Said | None) -> Callable:
    """Returns what makes the logits of a chunk's rows.

    A bfloat16 kernel is held in float32 outside of the chunk: there the gradients of all chunks are added up.
    """
    if not isinstance(said, Unembedding):
        return lambda own: own
    kernel, bias = precise(said.kernel), None if said.bias is None else precise(said.bias)
    return lambda hidden: dense(Unembedding(hidden, kernel.astype(said.kernel.dtype), bias))
