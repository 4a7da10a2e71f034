"""Attention by several implementations, of which only one holds the matrix of scores.

Of a query i and the keys j that it attends to, `output_i = sum_j softmax_j(q_i k_j / sqrt(head width)) v_j` (Vaswani et
al., 2017). The implementations differ in what they hold, and in float rounding:

    xla: the scores and the probabilities, `[batch, heads, length, length]`. Below float32 the exponentials are in the
        compute dtype, their sums in float32, and the output is divided by them: one array less, no less exact.
    chunked: those of one block of queries and keys at a time, in any program of XLA (`attention_blocks.py`).
    splash, cudnn: those of a block, by a kernel of a library (`attention_kernels.py`).

Vectors are `[batch, length, heads, head_width]`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxdistill import products
from jaxdistill.errors import UserError, unknown

IMPLEMENTATIONS = ("auto", "xla", "chunked", "splash", "cudnn")

FUSED_FROM = 512
"""Length from which "auto" holds no matrix of scores; a step on a CPU is faster by then too."""

MASKED_SCORE = -1e30
"""The score of a key that is masked for a query: finite, so that differences of two such scores are 0."""

Queries = Float[Array, "batch length heads head_width"]
Keys = Float[Array, "batch length key_heads head_width"]


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
            visible &= cut(self.token_mask, first_column, size, axis=1)[:, None, :] > 0
        if self.segment is not None:
            of_rows, of_columns = (cut(self.segment, first, size, axis=1) for first in (first_row, first_column))
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


class Setting(NamedTuple):
    """The conditions of a layer on which its implementation depends.

    Attributes:
        length: number of positions; that of an exported program may be a symbol.
        head_width: width of a head.
        dtype: of the computation.
        drops: whether probabilities are dropped.
    """

    length: int
    head_width: int
    dtype: Any
    drops: bool = False


def choose(name: str, setting: Setting) -> str:
    """Returns the implementation of a name, which may be "auto", on the devices of JAX's mesh, or else its backend.

    Raises:
        UserError: for an implementation that the device or the setting does not permit.
    """
    if name == "auto":
        # Below, the scores are no larger than other arrays of a layer.
        if not isinstance(setting.length, int) or setting.length < FUSED_FROM:
            return "xla"
        return next(kernel for kernel in ("splash", "cudnn", "chunked") if not _obstacle(kernel, setting))
    obstacle = _obstacle(name, setting)
    if obstacle:
        raise UserError(f"attention must be possible here, got {name!r}, which {obstacle}. Set 'auto' or 'chunked'")
    return name


def describe(model: Any, taps: Mapping[str, Any]) -> str:
    """Describes the implementation of a model's layers by their taps or the shapes of these, for `--plan`."""
    length, _, head_width = taps["block0/query"].shape[1:]
    setting = Setting(length, head_width, model.dtype)
    return f"attention {choose(model.attention, setting)} of {length:,} positions"


def _obstacle(name: str, setting: Setting) -> str:
    """Returns the reason against an implementation; "" if there is none."""
    devices = {"splash": ("tpu", "a TPU"), "cudnn": ("gpu", "an NVIDIA GPU")}
    if name not in devices:
        return ""
    platform, title = devices[name]
    if products.platform() != platform:
        return f"needs {title}; this is for a {products.platform()}"
    if setting.drops:
        return "has no dropout of probabilities"
    if name == "cudnn" and jax.default_backend() != "gpu":
        return "is compiled only where the GPU is"
    if name == "cudnn" and (
        jnp.dtype(setting.dtype).itemsize != 2 or setting.head_width % 8 or setting.head_width > 128
    ):
        return "needs bfloat16, and heads that are a multiple of 8 and at most 128 wide"
    return ""


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


def put_column(
    stored: Float[Array, "rows columns head_width"],
    new: Float[Array, "batch key_heads 1 head_width"],
    column: Int[Array, ""],
) -> Float[Array, "rows columns head_width"]:
    """Returns stored keys or values with those of a column, a row for each head of each text (`attend_from`)."""
    rows = new.reshape(-1, 1, new.shape[-1])
    return jax.lax.dynamic_update_slice_in_dim(stored, rows, column, axis=1)


def attend_from(
    query: Queries,
    key: Float[Array, "rows columns head_width"],
    value: Float[Array, "rows columns head_width"],
    visible: Bool[Array, "batch columns"],
) -> Queries:
    """Returns the output of one query of each text over stored keys and values.

    Args:
        query: `[batch, 1, heads, head_width]`.
        key: a row for each head of each text, `[batch * key_heads, columns, head_width]`.
        value: as `key`.
        visible: the keys that the query attends to, one at least.
    """
    batch, _, heads, head_width = query.shape
    grouped = query.reshape(len(key), -1, head_width)
    scores = jnp.einsum("rgd,rcd->rgc", grouped, key, preferred_element_type=jnp.float32) / math.sqrt(head_width)
    visible = jnp.repeat(visible, len(key) // batch, axis=0)[:, None]
    weights = jax.nn.softmax(jnp.where(visible, scores, MASKED_SCORE)).astype(value.dtype)
    return jnp.einsum("rgc,rcd->rgd", weights, value).reshape(batch, 1, heads, head_width)


def cut(x: Array, start: Any, size: int, axis: int = -2) -> Array:
    """Returns `size` entries along an axis, from `start` on, which may be traced."""
    return jax.lax.dynamic_slice_in_dim(x, start, size, axis % x.ndim)
