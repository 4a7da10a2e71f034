"""Attention by several implementations, of which only one holds the matrix of scores.

Of a query i and the keys j that it attends to, `output_i = sum_j softmax_j(q_i k_j / sqrt(head width)) v_j` (Vaswani et
al., 2017). The implementations differ in what they hold, and in float rounding:

    xla: the scores and the probabilities, `[batch, heads, length, length]`.
    chunked: those of one block of queries and keys at a time, in any program of XLA. Milakov & Gimelshein, "Online
        normalizer calculation for softmax", 2018, https://arxiv.org/abs/1805.02867; its gradient is that of Dao et al.,
        "FlashAttention", NeurIPS 2022, https://arxiv.org/abs/2205.14135, algorithm 4, for each pair of blocks.

Blocks without a visible pair, above the diagonal or outside the window, are not computed. Arrays of vectors are
`[batch, length, heads, head_width]` outside, and `[batch, key_heads, group, length, head_width]` inside.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxdistill.errors import unknown

IMPLEMENTATIONS = ("auto", "xla", "chunked")

FUSED_FROM = 512
"""Length from which "auto" holds no matrix of scores; a step on a CPU is faster by then too."""

BLOCK = 256
"""Number of queries, and of keys, in a block."""

MASKED_SCORE = -1e30
"""The score of a key that is masked for a query: finite, so that differences of two such scores are 0."""

Queries = Float[Array, "batch length heads head_width"]
Keys = Float[Array, "batch length key_heads head_width"]
Grouped = Float[Array, "batch key_heads group length head_width"]
Rows = Float[Array, "batch key_heads group length"]


@struct.dataclass
class Visibility:
    """The keys that each query attends to.

    Attributes:
        causal: whether those of later positions are masked.
        window: the number of positions up to its own that a query attends to; 0 for all.
        token_mask: `[batch, length]`, above 0 for keys that are tokens; `None` if all are.
        segment: int `[batch, length]`, the part of a row that a position belongs to, and that it attends to; `None` if
            rows have one part.
        column: int `[]`, the position of the only query, of causal rows whose keys are stored and have a `token_mask`;
            `None` if there is a query for each key.
    """

    causal: bool = struct.field(pytree_node=False, default=False)
    window: int = struct.field(pytree_node=False, default=0)
    token_mask: Shaped[Array, "batch length"] | None = None
    segment: Int[Array, "batch length"] | None = None
    column: Int[Array, ""] | None = None

    def mask(self, length: int) -> Bool[Array, "_ 1 {length} {length}"]:
        """Returns whether each query (row) attends to each key (column)."""
        return self.block_mask(0, 0, length)[:, None]

    def column_mask(self) -> Bool[Array, "batch columns"]:
        """Returns whether the query at `column` attends to each key."""
        assert self.token_mask is not None
        distance = self.column - jnp.arange(self.token_mask.shape[1])[None]
        visible = (distance >= 0) & (self.token_mask > 0)
        return visible & (distance < self.window) if self.window else visible

    def block_mask(self, first_row: Any, first_column: Any, size: int) -> Bool[Array, "_ {size} {size}"]:
        """Returns the mask of `size` queries and keys from these positions on."""
        rows, columns = first_row + jnp.arange(size), first_column + jnp.arange(size)
        distance = (rows[:, None] - columns[None, :])[None]
        visible = jnp.ones(distance.shape, bool)
        if self.causal:
            visible &= distance >= 0
        if self.window:
            visible &= distance < self.window
        if self.token_mask is not None:
            visible &= _cut(self.token_mask, first_column, size, axis=1)[:, None, :] > 0
        if self.segment is not None:
            of_rows, of_columns = (_cut(self.segment, first, size, axis=1) for first in (first_row, first_column))
            visible &= of_rows[:, :, None] == of_columns[:, None, :]
        return visible

    def pad(self, length: int, padded: int) -> "Visibility":
        """Returns the visibility of rows that are filled up to a greater length; no query attends to the filling."""
        if padded == length:
            return self
        is_token = jnp.ones((1, length), bool) if self.token_mask is None else self.token_mask > 0
        fill = ((0, 0), (0, padded - length))
        segment = None if self.segment is None else jnp.pad(self.segment, fill)
        return dataclasses.replace(self, token_mask=jnp.pad(is_token, fill), segment=segment)

    def visible_blocks(self, blocks: int, size: int) -> Int[np.ndarray, "pairs 2"]:
        """Returns the pairs of a block of queries and one of keys that positions alone do not mask."""
        rows, columns = np.meshgrid(np.arange(blocks), np.arange(blocks), indexing="ij")
        nearest, farthest = (rows - columns - 1) * size + 1, (rows - columns + 1) * size - 1
        visible = np.ones((blocks, blocks), bool)
        if self.causal:
            visible &= farthest >= 0
        if self.window:
            visible &= nearest < self.window
        return np.argwhere(visible).astype(np.int32)


def check_implementation(name: str) -> None:
    """Raises `UserError` for an unknown implementation."""
    if name not in IMPLEMENTATIONS:
        raise unknown("attention", name, IMPLEMENTATIONS, "an implementation of attention")


def choose(name: str, length: int) -> str:
    """Returns the implementation of a name, which may be "auto", for rows of this length."""
    if name != "auto":
        return name
    # Below, the scores are smaller than other arrays of a layer. The length of an exported program may be a symbol.
    return "chunked" if isinstance(length, int) and length >= FUSED_FROM else "xla"


def scores_of(query: Queries, key: Keys, visibility: Visibility) -> Float[Array, "batch heads length length"]:
    """Returns the scores, float32: scaled, and `MASKED_SCORE` for a key that the query does not attend to."""
    batch, length, heads, head_width = query.shape
    grouped = query.reshape(batch, length, key.shape[2], -1, head_width)
    scores = jnp.einsum("bikgd,bjkd->bkgij", grouped, key, preferred_element_type=jnp.float32)
    scores = scores.reshape(batch, heads, length, length) / math.sqrt(head_width)
    return jnp.where(visibility.mask(length), scores, MASKED_SCORE)


def mix(weights: Float[Array, "batch heads length length"], value: Keys) -> Queries:
    """Returns the values of the keys, summed with the weights of each query."""
    batch, heads, length, _ = weights.shape
    key_heads = value.shape[2]
    grouped = weights.reshape(batch, key_heads, heads // key_heads, length, length)
    mixed = jnp.einsum("bkgij,bjkd->bikgd", grouped, value)
    return mixed.reshape(batch, length, heads, -1)


def attend_from(query: Queries, key: Array, value: Array, visible: Bool[Array, "batch columns"]) -> Queries:
    """Returns the output of one query of each row over stored keys and values.

    Args:
        query: `[batch, 1, heads, head_width]`.
        key: `[batch, key_heads, columns, head_width]`.
        value: as `key`.
        visible: the keys that the query attends to, one at least.
    """
    batch, _, heads, head_width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, head_width)
    scores = jnp.einsum("bkgd,bkcd->bkgc", grouped, key, preferred_element_type=jnp.float32) / math.sqrt(head_width)
    weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores, MASKED_SCORE)).astype(value.dtype)
    return jnp.einsum("bkgc,bkcd->bkgd", weights, value).reshape(batch, 1, heads, head_width)


class Dropout(NamedTuple):
    """Dropout of the probabilities: its rate, and the key of its draws."""

    rate: float
    key: Array


def chunked(query: Queries, key: Keys, value: Keys, visibility: Visibility, dropout: Dropout | None = None) -> Queries:
    """Returns the output of attention, of which one block of scores exists at a time.

    It has a gradient in reverse mode only (`jax.custom_vjp`). A query that attends to no key at all has an arbitrary
    output, without a gradient.

    Args:
        query: `[batch, length, heads, head_width]`.
        key: the same of `key_heads`, each for `heads / key_heads` consecutive queries.
        value: as `key`.
        visibility: the keys that each query attends to.
        dropout: of the probabilities; `None` for none. Its draws are another function of the key than those of other
            implementations.
    """
    batch, length, heads, head_width = query.shape
    key_heads = key.shape[2]
    size = min(BLOCK, length)
    blocks = -(-length // size)

    def fill(x: Array) -> Array:
        x = jnp.moveaxis(x, 1, -2)
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, blocks * size - length), (0, 0)])

    query = query.reshape(batch, length, key_heads, heads // key_heads, head_width)
    padded = visibility.pad(length, blocks * size)
    plan = _Plan(size, blocks, head_width**-0.5, 0.0 if dropout is None else dropout.rate)
    inputs = _Inputs(*map(fill, (query, key, value)), padded, None if dropout is None else dropout.key)
    result = _chunked(plan, inputs)
    return jnp.moveaxis(result[..., :length, :], -2, 1).reshape(batch, length, heads, head_width)


class _Plan(NamedTuple):
    """Static settings of the blocks: their size and number, the factor of the scores, and the rate of dropout."""

    size: int
    blocks: int
    scale: float
    rate: float


class _Inputs(NamedTuple):
    """Vectors, filled up to whole blocks; the keys that are visible; and the key of the draws of dropout."""

    query: Grouped
    key: Float[Array, "batch key_heads length head_width"]
    value: Float[Array, "batch key_heads length head_width"]
    visibility: Visibility
    draws: Array | None


Residuals = tuple[_Inputs, Grouped, Rows]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked(plan: _Plan, inputs: _Inputs) -> Grouped:
    return _forward(plan, inputs)[0]


def _forward(plan: _Plan, inputs: _Inputs) -> tuple[Grouped, Residuals]:
    size, query, value = plan.size, inputs.query, inputs.value

    def add(carry: tuple[Grouped, Rows, Rows], pair: Int[Array, "2"]) -> tuple[tuple[Grouped, Rows, Rows], None]:
        mixed, largest, total = carry
        i, j = pair * size
        scores, _ = _block_scores(plan, inputs, i, j)
        before = _cut(largest, i, size, axis=3)
        now = jnp.maximum(before, jnp.max(scores, -1))
        exps, shrink = jnp.exp(scores - now[..., None]), jnp.exp(before - now)
        total = _put(total, _cut(total, i, size, axis=3) * shrink + jnp.sum(exps, -1), i, axis=3)
        exps = _drop(plan, exps, inputs.draws, pair).astype(value.dtype)
        part = jnp.einsum("bkgij,bkjd->bkgid", exps, _cut(value, j, size), preferred_element_type=jnp.float32)
        mixed = _put(mixed, _cut(mixed, i, size) * shrink[..., None] + part, i)
        return (mixed, _put(largest, now, i, axis=3), total), None

    zeros = jnp.zeros(query.shape[:-1], jnp.float32)
    start = (jnp.zeros(query.shape, jnp.float32), zeros - jnp.inf, zeros)
    pairs = inputs.visibility.visible_blocks(plan.blocks, size)
    (mixed, largest, total), _ = jax.lax.scan(add, start, pairs)
    mixed = (mixed / total[..., None]).astype(query.dtype)
    return mixed, (inputs, mixed, largest + jnp.log(total))


def _backward(plan: _Plan, residuals: Residuals, gradient: Grouped) -> tuple[Any]:
    inputs, mixed, log_total = residuals
    (query, key, value, visibility, draws), size = inputs, plan.size
    exact = {"preferred_element_type": jnp.float32}
    # sum_j p_ij dp_ij of the softmax's gradient, since mixed_i = sum_j p_ij v_j.
    inner = jnp.sum(gradient.astype(jnp.float32) * mixed.astype(jnp.float32), -1)

    def add(carry: tuple[Array, Array, Array], pair: Int[Array, "2"]) -> tuple[tuple[Array, Array, Array], None]:
        i, j = pair * size
        scores, visible = _block_scores(plan, inputs, i, j)
        shares = jnp.where(visible, jnp.exp(scores - _cut(log_total, i, size, axis=3)[..., None]), 0.0)
        of_output, of_query = _cut(gradient, i, size), _cut(query, i, size)
        dropped = _drop(plan, shares, draws, pair).astype(value.dtype)
        by_value = jnp.einsum("bkgij,bkgid->bkjd", dropped, of_output, **exact)
        by_share = jnp.einsum("bkgid,bkjd->bkgij", of_output, _cut(value, j, size), **exact)
        by_share = _drop(plan, by_share, draws, pair)
        by_score = plan.scale * shares * (by_share - _cut(inner, i, size, axis=3)[..., None])
        by_score = by_score.astype(key.dtype)
        by_query = jnp.einsum("bkgij,bkjd->bkgid", by_score, _cut(key, j, size), **exact)
        by_key = jnp.einsum("bkgij,bkgid->bkjd", by_score, of_query, **exact)
        parts = ((by_query, i), (by_key, j), (by_value, j))
        return tuple(_put(x, _cut(x, at, size) + part, at) for x, (part, at) in zip(carry, parts, strict=True)), None

    start = tuple(jnp.zeros(x.shape, jnp.float32) for x in (query, key, value))
    gradients, _ = jax.lax.scan(add, start, visibility.visible_blocks(plan.blocks, size))
    by_query, by_key, by_value = (x.astype(of.dtype) for x, of in zip(gradients, (query, key, value), strict=True))
    return (_Inputs(by_query, by_key, by_value, visibility=None, draws=None),)


_chunked.defvjp(_forward, _backward)


def _block_scores(
    plan: _Plan, inputs: _Inputs, i: Array, j: Array
) -> tuple[Float[Array, "batch key_heads group size size"], Bool[Array, "_ 1 1 size size"]]:
    """Returns the scores of one block of queries and keys, and which are visible."""
    query, key = _cut(inputs.query, i, plan.size), _cut(inputs.key, j, plan.size)
    products = jnp.einsum("bkgid,bkjd->bkgij", query, key, preferred_element_type=jnp.float32)
    visible = inputs.visibility.block_mask(i, j, plan.size)[:, None, None]
    return jnp.where(visible, plan.scale * products, MASKED_SCORE), visible


def _drop(plan: _Plan, weights: Array, draws: Array | None, pair: Int[Array, "2"]) -> Array:
    """Returns the weights of a pair of blocks after dropout; the same are dropped in either direction."""
    if draws is None:
        return weights
    block_key = jax.random.fold_in(draws, pair[0] * plan.blocks + pair[1])
    survives = jax.random.bernoulli(block_key, 1 - plan.rate, weights.shape)
    return jnp.where(survives, weights / (1 - plan.rate), 0.0)


def _cut(x: Array, start: Any, size: int, axis: int = -2) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, start, size, axis % x.ndim)


def _put(x: Array, part: Array, start: Any, axis: int = -2) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(x, part, start, axis % x.ndim)
