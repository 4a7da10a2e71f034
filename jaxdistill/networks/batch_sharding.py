"""Activations that stay split over the devices of a mesh as the batch is.

XLA chooses the sharding of activations, and where weights are split over `fsdp` it may choose the weights' instead of
the batch's: every device then computes all rows. So each module's output is constrained, whichever model it is of.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec

BATCH_AXES = ("data", "fsdp")
"""The axes of a mesh that the rows of a batch are split over."""


def split_rows(x: Any, rows: int) -> Any:
    """Constrains an array to be split over the mesh's batch axes by its rows.

    Args:
        x: an array `[rows, ...]`; anything else is returned as it is, and so is an array without a mesh
            (`jax.set_mesh`) or with one that does not divide the rows.
        rows: the rows of the batch.
    """
    axes, devices = _batch_axes()
    if devices == 1 or rows % devices or not isinstance(x, jax.Array) or x.ndim == 0 or x.shape[0] != rows:
        return x
    free = [PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(axes, *free))


def keep_rows_split(rows: int) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which the outputs of Linen modules are constrained by `split_rows`."""
    if _batch_axes()[1] == 1:
        return contextlib.nullcontext()
    return nn.intercept_methods(functools.partial(_constrain_outputs, rows))


def _batch_axes() -> tuple[tuple[str, ...], int]:
    """Returns those axes of JAX's mesh that split a batch, and the number of their devices."""
    sizes = jax.sharding.get_abstract_mesh().shape
    axes = tuple(axis for axis in BATCH_AXES if axis in sizes)
    return axes, math.prod(sizes[axis] for axis in axes)


def _constrain_outputs(
    rows: int, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
) -> Any:
    """Calls a module's method; its output is constrained, or each member of a tuple, but not the taps in a dict."""
    outputs = method(*args, **kwargs)
    if type(outputs) is tuple:
        return tuple(split_rows(x, rows) for x in outputs)
    return split_rows(outputs, rows)
