"""Losses computed on chunks of the predictions, so that float32 logits of all of them never exist.

A chunk's logits are computed where they are compared, and computed again in the backward pass (`jax.checkpoint`), so
that memory holds the logits of one chunk. The price is one more product of hidden states and kernel on either side.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Logits


def compare(loss: Callable[..., Any], student: Logits, teacher: Logits | None, *arrays: jax.Array, chunk: int) -> Any:
    """Returns `loss(student, teacher, *arrays)`, computed on `chunk` predictions at a time.

    A chunk takes predictions at a fixed stride, not neighbours. If a batch is sharded over devices whose number divides
    `chunk`, every device has a part of every chunk. Chunks are made up to half smaller if they then divide the
    predictions; else the last one is filled up with the last prediction, which moves predictions between devices.

    Args:
        loss: `(logits [*n, classes], logits or TopK or None, *arrays [*n, ...]) -> [*n]`, each prediction's value a
            function of this prediction alone. It may return a tree of arrays `[*n, ...]`.
        student: of `[*n]` predictions; logits keep their dtype outside the chunk.
        teacher: of the same predictions, or `None`.
        arrays: `[*n, ...]`.
        chunk: the largest number of predictions in a chunk; 0 for all at once.

    Returns:
        `[*n]`, or the tree that `loss` returns.
    """
    shape = core.prediction_shape(student)
    count = math.prod(shape)
    if not 0 < chunk < count:
        return loss(core.comparable(student), None if teacher is None else core.comparable(teacher), *arrays)
    chunks, chunk = _divide(shape, chunk)

    def fold(x: jax.Array) -> jax.Array:
        x = x.reshape(count, *x.shape[len(shape) :])
        if chunks * chunk > count:
            x = jnp.pad(x, [(0, chunks * chunk - count)] + [(0, 0)] * (x.ndim - 1), mode="edge")
        return jnp.moveaxis(x.reshape(chunk, chunks, *x.shape[1:]), 1, 0)

    def unfold(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x, 0, 1).reshape(chunks * chunk, *x.shape[2:])[:count].reshape(*shape, *x.shape[2:])

    sides = [side for side in (student, teacher) if side is not None]
    functions = [core.row_function(side) for side in sides]

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def compare_chunk(parts: tuple[list[Any], list[jax.Array]]) -> Any:
        logits = [function(rows) for function, rows in zip(functions, parts[0], strict=True)]
        return loss(*logits, *[None] * (2 - len(logits)), *parts[1])

    parts = jax.tree.map(fold, ([core.rows(side) for side in sides], list(arrays)))
    return jax.tree.map(unfold, jax.lax.map(compare_chunk, parts))


def _divide(shape: tuple[int, ...], chunk: int) -> tuple[int, int]:
    """Returns the number of chunks and their size: of one that divides the predictions, and devices as `chunk` does."""
    count, least = math.prod(shape), -(-math.prod(shape) // chunk)
    devices = math.gcd(chunk, shape[0])
    fitting = (n for n in range(least, 2 * least + 1) if count % (n * devices) == 0)
    chunks = next(fitting, 0)
    return (chunks, count // chunks) if chunks else (least, chunk)
