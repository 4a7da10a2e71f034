"""Attention by kernels of libraries: Pallas's splash attention on TPUs, cuDNN's on NVIDIA's GPUs.

Both hold no matrix of scores, and neither has dropout of the probabilities here. Arguments and results are those of
`attention_blocks.chunked`.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from jaxdistill.models import attention_blocks
from jaxdistill.models.attention import Keys, Queries, Visibility
from jaxdistill.models.row_axes import TENSOR, row_axes

SPLASH_BLOCKS = (512, 256, 128)
"""Numbers of queries and keys of a block, of which the first that divides the length is taken."""

Heads = Float[Array, "heads length head_width"]


def splash(query: Queries, key: Keys, value: Keys, visibility: Visibility, *, interpret: bool = False) -> Queries:
    """Returns the output of attention by `jax.experimental.pallas.ops.tpu.splash_attention`.

    A kernel runs on one device: heads are split over the axis `tensor` of JAX's mesh and rows over the others, if these
    divide them.

    Args:
        query: `[batch, length, heads, head_width]`.
        key: the same of `key_heads`, each for `heads / key_heads` consecutive queries.
        value: as `key`.
        visibility: the keys that each query attends to; padding attends to padding.
        interpret: whether the kernel is interpreted, on any device, for tests.
    """
    (batch, length), head_width = query.shape[:2], query.shape[3]
    padded = -(-length // SPLASH_BLOCKS[-1]) * SPLASH_BLOCKS[-1]
    segment = _segments(visibility, (batch, length), padded)

    def fill(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, padded - length), (0, 0), (0, 0)))
        return jnp.moveaxis(x, 2, 1)

    # The kernel has no factor of the scores.
    vectors = fill(query * jnp.asarray(head_width**-0.5, query.dtype)), fill(key), fill(value)
    run = functools.partial(_run_splash, visibility.causal, visibility.window, interpret)
    sizes = jax.sharding.get_abstract_mesh().shape
    if math.prod(sizes.values()) > 1:
        over_rows = row_axes(batch)
        over_heads = TENSOR if TENSOR in sizes and key.shape[2] % sizes[TENSOR] == 0 else None
        spec = PartitionSpec(over_rows, over_heads)
        inputs = (spec, spec, spec, PartitionSpec(over_rows))
        run = jax.shard_map(run, in_specs=inputs, out_specs=spec, check_vma=False)
    return jnp.moveaxis(run(*vectors, segment), 1, 2)[:, :length]


def _segments(visibility: Visibility, shape: tuple[int, int], padded: int) -> Int[Array, "batch {padded}"]:
    """Returns the segment of each position, -1 for padding: positions attend to those of their segment."""
    segment = jnp.zeros(shape, jnp.int32) if visibility.segment is None else visibility.segment.astype(jnp.int32)
    if visibility.token_mask is not None:
        segment = jnp.where(visibility.token_mask > 0, segment, -1)
    return jnp.pad(segment, ((0, 0), (0, padded - shape[1])), constant_values=-1)


def _run_splash(
    causal: bool, window: int, interpret: bool, query: Array, key: Array, value: Array, segment: Array
) -> Array:
    """Returns the output for rows and heads of one device, `[batch, heads, length, head_width]` each."""
    from jax.experimental.pallas.ops.tpu import splash_attention

    heads, length = query.shape[1:3]
    shape = (length, length)
    if window:
        mask = splash_attention.LocalMask(shape, (window - 1, 0 if causal else None), offset=0)
    else:
        mask = splash_attention.CausalMask(shape) if causal else splash_attention.FullMask(shape)
    side = next(size for size in SPLASH_BLOCKS if length % size == 0)
    names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
    kernel = splash_attention.make_splash_mha(
        splash_attention.MultiHeadMask([mask] * heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=splash_attention.BlockSizes(**{f"block_{name}": side for name in names}),
        interpret=interpret,
    )

    def attend(query: Heads, key: Heads, value: Heads, segment: Int[Array, " length"]) -> Heads:
        return kernel(query, key, value, segment_ids=splash_attention.SegmentIds(segment, segment))

    return jax.vmap(attend)(query, key, value, segment)


def cudnn(query: Queries, key: Keys, value: Keys, visibility: Visibility) -> Queries:
    """Returns the output of attention by `jax.nn.dot_product_attention`.

    Padding and segments are a mask of one head, `[batch, 1, length, length]`: cuDNN has no other form of padding on
    the left.

    Args:
        query: `[batch, length, heads, head_width]`.
        key: the same of `key_heads`, each for `heads / key_heads` consecutive queries.
        value: as `key`.
        visibility: the keys that each query attends to.
    """
    window = (visibility.window - 1, 0) if visibility.window and visibility.causal else None
    by_mask = visibility.token_mask is not None or visibility.segment is not None or (visibility.window and not window)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=visibility.mask(query.shape[1]) if by_mask else None,
        is_causal=visibility.causal,
        local_window_size=window,
        implementation="cudnn",
    )


FORMS = {"xla": attention_blocks.whole, "chunked": attention_blocks.chunked, "splash": splash, "cudnn": cudnn}
"""Implementations by the names of `attention.IMPLEMENTATIONS`; the first two have dropout."""
