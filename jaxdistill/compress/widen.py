"""Function-preserving growth: more units, or more layers, with the same outputs.

    wider    unit j of the new network is unit j mod n of the old one; what reads it is divided by its number of copies
    deeper   a layer with W = I after a ReLU, or a residual block whose last layers are 0

Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016,
https://arxiv.org/abs/1511.05641, sections 2.2 and 2.3, which draws the copied units at random. Copies that start equal
stay equal without noise or dropout.
"""

import re
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array

from jaxdistill.compress.unit_groups import Arrays, Axis, Units
from jaxdistill.errors import UserError

KINDS = ("filters", "heads", "hidden")
"""Kinds of groups whose units may be copied; norms of a residual stream would see the copies."""


def widen(arrays: Arrays, units: Units, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Returns the arrays of a network of the same function with more units in some groups.

    Args:
        arrays: by flat name, with the collection in front.
        units: of the network.
        sizes: new number of units by group.

    Raises:
        UserError: for a group that does not exist, cannot be widened, or has as many units.
    """
    arrays = dict(arrays)
    for name, size in sizes.items():
        group = units.groups.get(name)
        if group is None or group.kind not in KINDS:
            names = [name for name, group in units.groups.items() if group.kind in KINDS]
            raise UserError(
                f"sizes must name groups of filters, heads or hidden units, got {name!r}. There are {names}"
            )
        if size < group.size:
            raise UserError(f"sizes of {name} must be at least its {group.size} units, got {size}")
        for axis in group.axes:
            arrays[axis.array] = copy_units(arrays[axis.array], axis, size)
    return arrays


def copy_units(x: Array, axis: Axis, size: int) -> Array:
    """Returns an array with its units repeated up to a number; those that it reads are divided by the copies."""
    count = axis.sizes[axis.factor]
    index = jnp.arange(size) % count
    x = axis.take(x, index)
    if not axis.reads:
        return x
    copies = jnp.bincount(index, length=count)[index].astype(x.dtype)
    sizes = (*axis.sizes[: axis.factor], size, *axis.sizes[axis.factor + 1 :])
    along = copies.reshape([-1 if factor == axis.factor else 1 for factor in range(len(sizes))])
    along = jnp.broadcast_to(along, sizes).reshape(-1)
    return x / along.reshape(*[1] * axis.axis, -1, *[1] * (x.ndim - axis.axis - 1))


def insert_dense(arrays: Arrays, after: int, prefix: str = "dense") -> dict[str, Array]:
    """Returns the arrays with an identity after dense layer number `after`, whose output passes a ReLU.

    Args:
        arrays: with `params/{prefix}{number}/kernel` and `bias`.
        after: number of a layer; those after it move up by one.
        prefix: name of the layers, without their numbers.
    """
    result = _move_up(arrays, prefix, after)
    width = arrays[f"params/{prefix}{after}/kernel"].shape[-1]
    place, dtype = f"params/{prefix}{after + 1}", arrays[f"params/{prefix}{after}/kernel"].dtype
    return result | {f"{place}/kernel": jnp.eye(width, dtype=dtype), f"{place}/bias": jnp.zeros(width, dtype)}


def insert_block(
    arrays: Arrays, after: int, prefix: str = "block", zeros: str = "(attention/out|feed_forward/down)/(kernel|bias)$"
) -> dict[str, Array]:
    """Returns the arrays with a copy of a residual block after it, which adds nothing.

    Args:
        arrays: with `params/{prefix}{number}/...`, and other collections alike.
        after: number of a block whose output has the shape of its input; those after it move up by one.
        prefix: name of the blocks, without their numbers.
        zeros: regular expression of the names of the block's arrays that are 0, so that it adds nothing: by default the
            last layers of transformers whose norms come first; "norm2/(scale|bias)$" for basic residual blocks.

    Raises:
        UserError: if there is no such block, or no array of it is set to 0.
    """
    pattern = re.compile(rf"^(\w+/{re.escape(prefix)}){after}(/.*)$")
    block = {name: parts for name in arrays if (parts := pattern.match(name))}
    copies = {f"{parts[1]}{after + 1}{parts[2]}": arrays[name] for name, parts in block.items()}
    silent = {name: jnp.zeros_like(x) for name, x in copies.items() if re.search(zeros, name)}
    if not silent:
        raise UserError(
            f"zeros must match an array of {prefix}{after}, got {zeros!r}. It has"
            f" {[name.partition('/')[2] for name in block] or 'none'}"
        )
    return _move_up(arrays, prefix, after) | copies | silent


def _move_up(arrays: Arrays, prefix: str, after: int) -> dict[str, Array]:
    """Returns arrays in which the layers after one have the next number."""
    pattern = re.compile(rf"^(\w+/{re.escape(prefix)})(\d+)(/.*)$")

    def move_name(name: str) -> str:
        parts = pattern.match(name)
        return f"{parts[1]}{int(parts[2]) + 1}{parts[3]}" if parts and int(parts[2]) > after else name

    return {move_name(name): x for name, x in arrays.items()}
