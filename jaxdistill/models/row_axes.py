"""The axes of a mesh that the rows of a batch are split over, for calls that XLA cannot split.

A kernel, or a constraint of a layout, is opaque to XLA's partitioner: without `jax.shard_map` it may gather the whole
batch on each device. On 64 chips of a v5p a constraint did (`docs/tpu.md`).
"""

import math

import jax

TENSOR = "tensor"
"""The axis of a mesh that splits heads and hidden units, not rows."""


def row_axes(rows: int) -> tuple[str, ...] | None:
    """Returns the axes of JAX's mesh (`jax.set_mesh`) but `tensor`, without those that are split by hand already.

    Args:
        rows: of the batch.

    Returns:
        The axes; `None` if they do not divide the rows.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(axis for axis in mesh.axis_names if axis != TENSOR and axis not in mesh.manual_axes)
    return axes if rows % math.prod(mesh.shape[axis] for axis in axes) == 0 else None
