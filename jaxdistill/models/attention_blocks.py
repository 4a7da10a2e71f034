"""Attention with gradients of its own: by blocks of queries and keys, and by all scores at once.

The exponentials of a row are summed block by block (Milakov & Gimelshein, "Online normalizer calculation for softmax",
2018, https://arxiv.org/abs/1805.02867), and the gradient computes a block's probabilities again, as in Dao et al.,
"FlashAttention", NeurIPS 2022, https://arxiv.org/abs/2205.14135, algorithm 4. Blocks without a visible pair, above the
diagonal or outside the window, are not computed. Exponentials have the compute dtype, their sums are in float32, and
the output is divided by them: in bfloat16 one array of `[batch, heads, length, length]` less than with probabilities,
and no less exact.

Arrays of vectors are `[batch, length, heads, head_width]` outside, and `[batch, key_heads, group, length, head_width]`
inside.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdistill.models.attention import MASKED_SCORE, Keys, Queries, Visibility, cut

BLOCK = 256
"""Number of queries, and of keys, in a block."""

Grouped = Float[Array, "batch key_heads group length head_width"]
Rows = Float[Array, "batch key_heads group length"]


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
    inputs, plan = _arrange(query, key, value, visibility, dropout=dropout, size=min(BLOCK, query.shape[1]))
    return _restore(_chunked(plan, inputs), query)


def whole(query: Queries, key: Keys, value: Keys, visibility: Visibility, dropout: Dropout | None = None) -> Queries:
    """Returns the output of attention by all scores at once, of which the backward pass keeps the exponentials.

    The arguments are those of `chunked`, and so is the gradient.
    """
    inputs, plan = _arrange(query, key, value, visibility, dropout=dropout, size=query.shape[1])
    return _restore(_whole(plan, inputs), query)


def _arrange(
    query: Queries, key: Keys, value: Keys, visibility: Visibility, *, dropout: Dropout | None, size: int
) -> tuple["_Inputs", "_Plan"]:
    """Returns the inputs as the loops over blocks take them, and the blocks."""
    batch, length, heads, head_width = query.shape
    key_heads = key.shape[2]
    blocks = -(-length // size)

    def fill(x: Array) -> Array:
        x = jnp.moveaxis(x, 1, -2)
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, blocks * size - length), (0, 0)])

    query = query.reshape(batch, length, key_heads, heads // key_heads, head_width)
    rate, draws = (0.0, None) if dropout is None else dropout
    padded = visibility.pad(length, blocks * size)
    return _Inputs(*map(fill, (query, key, value)), padded, draws), _Plan(size, blocks, head_width**-0.5, rate)


def _restore(mixed: "Grouped", query: Queries) -> Queries:
    """Returns outputs of the shape of the queries."""
    return jnp.moveaxis(mixed[..., : query.shape[1], :], -2, 1).reshape(query.shape)


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
        before = cut(largest, i, size, axis=3)
        now = jnp.maximum(before, jnp.max(scores, -1))
        exps, shrink = jnp.exp(scores - now[..., None]).astype(value.dtype), jnp.exp(before - now)
        part = jnp.sum(exps, -1, dtype=jnp.float32)
        total = _put(total, cut(total, i, size, axis=3) * shrink + part, i, axis=3)
        exps = _drop(plan, exps, inputs.draws, pair)
        part = jnp.einsum("bkgij,bkjd->bkgid", exps, cut(value, j, size), preferred_element_type=jnp.float32)
        mixed = _put(mixed, cut(mixed, i, size) * shrink[..., None] + part, i)
        return (mixed, _put(largest, now, i, axis=3), total), None

    zeros = jnp.zeros(query.shape[:-1], jnp.float32)
    start = (jnp.zeros(query.shape, jnp.float32), zeros - jnp.inf, zeros)
    pairs = inputs.visibility.visible_blocks(plan.blocks, size)
    (mixed, largest, total), _ = jax.lax.scan(add, start, pairs)
    mixed = mixed / total[..., None]
    return mixed.astype(query.dtype), (inputs, mixed, largest + jnp.log(total))


def _backward(plan: _Plan, residuals: Residuals, gradient: Grouped) -> tuple[Any]:
    inputs, mixed, log_total = residuals
    (query, key, value, visibility, draws), size = inputs, plan.size
    exact = {"preferred_element_type": jnp.float32}
    # sum_j p_ij dp_ij of the softmax's gradient, since mixed_i = sum_j p_ij v_j.
    inner = jnp.sum(gradient.astype(jnp.float32) * mixed, -1)

    def add(carry: tuple[Array, Array, Array], pair: Int[Array, "2"]) -> tuple[tuple[Array, Array, Array], None]:
        i, j = pair * size
        scores, visible = _block_scores(plan, inputs, i, j)
        shares = jnp.where(visible, jnp.exp(scores - cut(log_total, i, size, axis=3)[..., None]), 0.0)
        of_output, of_query = cut(gradient, i, size), cut(query, i, size)
        dropped = _drop(plan, shares, draws, pair).astype(value.dtype)
        by_value = jnp.einsum("bkgij,bkgid->bkjd", dropped, of_output, **exact)
        by_share = jnp.einsum("bkgid,bkjd->bkgij", of_output, cut(value, j, size), **exact)
        by_share = _drop(plan, by_share, draws, pair)
        by_score = plan.scale * shares * (by_share - cut(inner, i, size, axis=3)[..., None])
        by_score = by_score.astype(key.dtype)
        by_query = jnp.einsum("bkgij,bkjd->bkgid", by_score, cut(key, j, size), **exact)
        by_key = jnp.einsum("bkgij,bkgid->bkjd", by_score, of_query, **exact)
        parts = ((by_query, i), (by_key, j), (by_value, j))
        return tuple(_put(x, cut(x, at, size) + part, at) for x, (part, at) in zip(carry, parts, strict=True)), None

    start = tuple(jnp.zeros(x.shape, jnp.float32) for x in (query, key, value))
    gradients, _ = jax.lax.scan(add, start, visibility.visible_blocks(plan.blocks, size))
    by_query, by_key, by_value = (x.astype(of.dtype) for x, of in zip(gradients, (query, key, value), strict=True))
    return (_Inputs(by_query, by_key, by_value, visibility=None, draws=None),)


_chunked.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _whole(plan: _Plan, inputs: _Inputs) -> Grouped:
    return _whole_forward(plan, inputs)[0]


def _whole_forward(plan: _Plan, inputs: _Inputs) -> tuple[Grouped, tuple[_Inputs, Array, Rows, Grouped]]:
    scores, _ = _block_scores(plan, inputs, 0, 0)
    exps = jnp.exp(scores - jnp.max(scores, -1, keepdims=True)).astype(inputs.value.dtype)
    total = jnp.sum(exps, -1, dtype=jnp.float32)
    weights = _drop(plan, exps, inputs.draws, jnp.zeros(2, jnp.int32))
    mixed = jnp.einsum("bkgij,bkjd->bkgid", weights, inputs.value, preferred_element_type=jnp.float32)
    mixed = mixed / total[..., None]
    return mixed.astype(inputs.query.dtype), (inputs, exps, total, mixed)


def _whole_backward(plan: _Plan, residuals: tuple[_Inputs, Array, Rows, Grouped], gradient: Grouped) -> tuple[Any]:
    inputs, exps, total, mixed = residuals
    query, key, value, visibility, draws = inputs
    first = jnp.zeros(2, jnp.int32)
    visible = visibility.block_mask(0, 0, plan.size)[:, None, None]
    by_share = jnp.einsum("bkgid,bkjd->bkgij", gradient, value, preferred_element_type=jnp.float32)
    # `mixed` is not rounded, and so cancels `by_share` where one key has most of the probability.
    inner = jnp.sum(gradient.astype(jnp.float32) * mixed, -1)
    by_score = exps * (_drop(plan, by_share, draws, first) - inner[..., None]) * (plan.scale / total)[..., None]
    by_score = jnp.where(visible, by_score, 0.0).astype(key.dtype)
    by_query = jnp.einsum("bkgij,bkjd->bkgid", by_score, key)
    by_key = jnp.einsum("bkgij,bkgid->bkjd", by_score, query)
    weights = _drop(plan, exps / total[..., None], draws, first).astype(value.dtype)
    by_value = jnp.einsum("bkgij,bkgid->bkjd", weights, gradient)
    return (_Inputs(by_query, by_key, by_value, visibility=None, draws=None),)


_whole.defvjp(_whole_forward, _whole_backward)


def _block_scores(
    plan: _Plan, inputs: _Inputs, i: Array | int, j: Array | int
) -> tuple[Float[Array, "batch key_heads group size size"], Bool[Array, "_ 1 1 size size"]]:
    """Returns the scores of one block of queries and keys, and which are visible."""
    query, key = cut(inputs.query, i, plan.size), cut(inputs.key, j, plan.size)
    products = jnp.einsum("bkgid,bkjd->bkgij", query, key, preferred_element_type=jnp.float32)
    visible = inputs.visibility.block_mask(i, j, plan.size)[:, None, None]
    return jnp.where(visible, plan.scale * products, MASKED_SCORE), visible


def _drop(plan: _Plan, weights: Array, draws: Array | None, pair: Int[Array, "2"]) -> Array:
    """Returns the weights of a pair of blocks after dropout; the same are dropped in either direction."""
    if draws is None:
        return weights
    block_key = jax.random.fold_in(draws, pair[0] * plan.blocks + pair[1])
    survives = jax.random.bernoulli(block_key, 1 - plan.rate, weights.shape)
    return jnp.where(survives, weights / (1 - plan.rate), jnp.zeros((), weights.dtype))


def _put(x: Array, part: Array, start: Any, axis: int = -2) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(x, part, start, axis % x.ndim)
