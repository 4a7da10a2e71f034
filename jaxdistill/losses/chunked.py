"""Losses computed on chunks of the predictions, so that float32 logits of all of them never exist.

Memory holds the logits of one chunk. The gradient of a mean over the predictions is computed with the values, chunk by
chunk: a chunk's gradient by its logits (for a KL the student's probabilities minus the teacher's) is multiplied by
hidden states and kernel where it is, as in Hsu et al., "Liger Kernel", 2024, https://arxiv.org/abs/2410.10989. So all
products are those of dense logits, computed once. Without the weights of that mean the backward pass computes the
chunk's logits again (`jax.checkpoint`), the price of which is one more product on either side.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxdistill import core
from jaxdistill.core import Logits

ROUNDING = 1e-4
"""Difference, relative to the largest, up to which cotangents are a multiple of the weights."""


def compare(
    loss: Callable[..., Any],
    student: Logits,
    teacher: Logits | None,
    *arrays: jax.Array,
    chunk: int,
    weights: Float[Array, "*n"] | None = None,
) -> Any:
    """Returns `loss(student, teacher, *arrays)`, computed on `chunk` predictions at a time.

    A chunk takes predictions at a fixed stride, not neighbours. If a batch is sharded over devices whose number divides
    `chunk`, every device has a part of every chunk. Chunks are made up to half smaller if they then divide the
    predictions; else the last one is filled up with the last prediction, which moves predictions between devices.

    Args:
        loss: `(logits [*n, classes], logits or TopK or None, *arrays [*n, ...]) -> [*n]`, each prediction's value a
            function of this prediction alone. Without `weights` it may return a tree of arrays `[*n, ...]`.
        student: of `[*n]` predictions; logits keep their dtype outside the chunk.
        teacher: of the same predictions, or `None`.
        arrays: `[*n, ...]`.
        chunk: the largest number of predictions in a chunk; 0 for all at once.
        weights: `[*n]`, those of the mean or sum of the values that is differentiated, up to a factor. The gradient
            then is computed with the values: by the student's arrays, and by what `loss` closes over, and not by the
            teacher's or by `arrays`. It is not a number if values are weighted otherwise.

    Returns:
        `[*n]`, or the tree that `loss` returns.
    """
    shape = core.prediction_shape(student)
    if not 0 < chunk < math.prod(shape):
        return loss(core.comparable(student), None if teacher is None else core.comparable(teacher), *arrays)
    chunks = _Chunks.of(shape, chunk)
    of_student = core.row_function(student)
    rows = jax.tree.map(chunks.fold, core.rows(student))
    others = jax.tree.map(chunks.fold, (None if teacher is None else core.rows(teacher), list(arrays)))
    of_teacher = None if teacher is None else core.row_function(teacher)

    if weights is None:

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def compare_chunk(parts: tuple[Any, Any]) -> Any:
            return loss(*_inputs(of_student, parts[0], of_teacher, parts[1]))

        return jax.tree.map(chunks.unfold, jax.lax.map(compare_chunk, (rows, others)))
    first = jax.tree.map(lambda x: x[0], (rows, others))
    shapes = jax.eval_shape(_inputs, of_student, first[0], of_teacher, first[1])
    pure_loss, closed_over = jax.closure_convert(loss, *shapes)

    def compare_rows(learned: Any, rows: Any, of_teacher: Any, others: Any) -> Float[Array, " chunk"]:
        of_student, closed_over = learned
        return pure_loss(*_inputs(of_student, rows, of_teacher, others), *closed_over)

    weights = chunks.fold(jnp.broadcast_to(weights, shape).astype(jnp.float32), mode="constant")
    values: Any = _values(compare_rows, (of_student, closed_over), rows, (of_teacher, others), weights=weights)
    return chunks.unfold(values)


def _inputs(
    of_student: Callable[[Any], Any], rows: Any, of_teacher: Callable[[Any], Any] | None, others: tuple[Any, list[Any]]
) -> tuple[Any, ...]:
    """Returns the arguments of a loss: the logits of some rows of both sides, and the rows of further arrays."""
    of_others, arrays = others
    return of_student(rows), None if of_teacher is None else of_teacher(of_others), *arrays


class _Chunks(NamedTuple):
    """Chunks of the predictions `[*n]`, their number and size."""

    shape: tuple[int, ...]
    number: int
    size: int

    @classmethod
    def of(cls, shape: tuple[int, ...], largest: int) -> "_Chunks":
        """Returns chunks of a size that divides the predictions, and devices as `largest` does."""
        count, least = math.prod(shape), -(-math.prod(shape) // largest)
        devices = math.gcd(largest, shape[0])
        fitting = (n for n in range(least, 2 * least + 1) if count % (n * devices) == 0)
        number = next(fitting, 0)
        return cls(shape, number, count // number) if number else cls(shape, least, largest)

    def fold(self, x: Shaped[Array, "..."], mode: Any = "edge") -> Shaped[Array, "..."]:
        """Returns `[number, size, ...]` of an array `[*n, ...]`, filled up at the end."""
        count, capacity = math.prod(self.shape), self.number * self.size
        x = x.reshape(count, *x.shape[len(self.shape) :])
        if capacity > count:
            x = jnp.pad(x, [(0, capacity - count)] + [(0, 0)] * (x.ndim - 1), mode=mode)
        return jnp.moveaxis(x.reshape(self.size, self.number, *x.shape[1:]), 1, 0)

    def unfold(self, x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Returns `[*n, ...]` of `fold`'s arrays."""
        x = jnp.moveaxis(x, 0, 1).reshape(self.number * self.size, *x.shape[2:])
        return x[: math.prod(self.shape)].reshape(*self.shape, *x.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _values(
    compare_rows: Callable[..., jax.Array], learned: Any, rows: Any, given: tuple[Any, Any], weights: jax.Array
) -> Float[Array, "chunks chunk"]:
    """Returns the values of all chunks.

    Args:
        compare_rows: `(learned, rows, of_teacher, others) -> [chunk]`.
        learned: arrays that every row is compared by, with a gradient.
        rows: arrays `[chunks, chunk, ...]` with a gradient.
        given: `(of_teacher, others)`, the teacher's function of rows and arrays of each row, without a gradient.
        weights: `[chunks, chunk]`, of which the cotangents are a multiple.
    """
    of_teacher, others = given
    return jax.lax.map(lambda parts: compare_rows(learned, parts[0], of_teacher, parts[1]), (rows, others))


def _values_forward(
    compare_rows: Callable[..., jax.Array], learned: Any, rows: Any, given: tuple[Any, Any], weights: jax.Array
) -> tuple[jax.Array, tuple[Any, Any, jax.Array]]:
    of_teacher, others = given

    def add(total: Any, parts: tuple[Any, Any, jax.Array]) -> tuple[Any, tuple[jax.Array, Any]]:
        rows, others, weights = parts
        values, pull = jax.vjp(lambda learned, rows: compare_rows(learned, rows, of_teacher, others), learned, rows)
        by_learned, by_rows = pull(weights.astype(values.dtype))
        return jax.tree.map(jnp.add, total, by_learned), (values, by_rows)

    start = jax.tree.map(jnp.zeros_like, learned)
    total, (values, by_rows) = jax.lax.scan(add, start, (rows, others, weights))
    return values, (total, by_rows, weights)


def _values_backward(
    compare_rows: Callable[..., jax.Array], residuals: tuple[Any, Any, jax.Array], cotangents: jax.Array
) -> tuple[Any, Any, None, None]:
    total, by_rows, weights = residuals
    factor = jnp.sum(cotangents * weights) / jnp.maximum(jnp.sum(weights**2), jnp.finfo(jnp.float32).tiny)
    largest = jnp.max(jnp.abs(cotangents))
    is_multiple = jnp.max(jnp.abs(cotangents - factor * weights)) <= ROUNDING * largest
    factor = jnp.where(is_multiple, factor, jnp.nan)

    def scale(tree: Any) -> Any:
        return jax.tree.map(lambda x: (factor * x).astype(x.dtype), tree)

    return scale(total), jax.lax.map(scale, by_rows), None, None


_values.defvjp(_values_forward, _values_backward)
