"""Where arrays live: one mesh with the axes `data`, `fsdp` and `tensor`, and rules over names.

One program serves one core and a pod: arrays are replicated unless a rule says otherwise, batches are split
over `data` and `fsdp`. The axes are of JAX's Auto kind: under Explicit axes ordinary Linen code does not trace.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdistill.core import path_name
from jaxdistill.errors import UserError, unknown

AXES = ("data", "fsdp", "tensor")
Rules = Sequence[tuple[str, Sequence[str | None]]]


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes the mesh; one size may be -1, for all the devices that the others leave.

    Raises:
        UserError: for unknown axes, and sizes whose product is not the number of devices.
    """
    for name in sizes:
        if name not in AXES:
            raise unknown("mesh axis", name, AXES)
    devices = jax.devices() if devices is None else devices
    shape = [sizes.get(name, 1) for name in AXES]
    if shape.count(-1) == 1:
        rest = int(np.prod([size for size in shape if size != -1]))
        shape = [len(devices) // max(rest, 1) if size == -1 else size for size in shape]
    if min(shape) < 1 or int(np.prod(shape)) != len(devices):
        raise UserError(
            f"mesh {dict(zip(AXES, shape, strict=True))} does not fit {len(devices)} devices;"
            " the product of its sizes must be their number (one may be -1)"
        )
    return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def over_rows(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Splits the batch axis, which stands after `leading` others."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, ("data", "fsdp")))


def check_batch(mesh: Mesh, batch: int, accumulate: int, processes: int = 1) -> None:
    """Raises `UserError` for a batch that micro-batches, devices or processes cannot share evenly."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    for number, what in ((accumulate, "accumulate"), (ways * accumulate, "the mesh's data x fsdp (x accumulate)")):
        if number < 1 or batch < 1 or batch % number:
            near = max(number, batch // number * number) if number > 0 else batch
            raise UserError(
                f"a batch of {batch} cannot be divided by {what} = {number}; take {near} or {near + max(number, 1)}"
            )
    if batch % processes:
        raise UserError(f"a batch of {batch} cannot be divided by {processes} processes")


def check_rules(rules: Rules) -> None:
    """Raises `UserError` for what is not a list of `(regex, spec)`."""
    for rule in rules:
        whole = isinstance(rule, (tuple, list)) and len(rule) == 2 and isinstance(rule[0], str)
        if not whole or not isinstance(rule[1], (tuple, list)):
            raise UserError(f"sharding rule {rule!r} is not (regex, spec), such as ('kernel$', (None, 'fsdp'))")
        try:
            re.compile(rule[0])
        except re.error as error:
            raise UserError(f"sharding rule {rule[0]!r} is not a regular expression: {error}") from error
        axes = [axis for axis in rule[1] if axis is not None]
        if len(set(axes)) < len(axes):
            raise UserError(f"sharding rule {rule!r} splits two dimensions over one axis")


def shardings(mesh: Mesh, tree: Any, rules: Rules) -> Any:
    """Gives every leaf of a tree of shapes its sharding: that of the first rule whose regex is in its name.

    Args:
        tree: arrays or `ShapeDtypeStruct`s; names are paths such as `params/student/stage1/Conv_0/kernel`.
        rules: `(regex, spec)`; a spec names one mesh axis, or `None`, per dimension. The optimizer's and EMA
            copies of a parameter carry its name, and so its sharding.

    Raises:
        UserError: for a rule that matches no parameter, an unknown axis, and a dimension that its axis cannot
            divide.
    """
    used = set()

    def place(path, leaf):
        name = path_name(path)
        for regex, spec in rules:
            # A statistic of a parameter (a factored moment) carries its name but not its shape.
            if re.search(regex, name) and len(spec) == leaf.ndim:
                used.add(regex)
                return NamedSharding(mesh, PartitionSpec(*_divides(mesh, name, leaf.shape, spec)))
        return replicated(mesh)

    placed = jax.tree_util.tree_map_with_path(place, tree)
    for regex, spec in rules:
        if regex not in used:
            some = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)][:8]
            raise UserError(
                f"sharding rule {regex!r} -> {tuple(spec)} matches no array of {len(spec)} dimensions;"
                f" names look like {some}"
            )
    return placed


def matching(rules: Rules, tree: Any) -> Rules:
    """The rules that match something in a part of a tree; that each matches somewhere is checked on the whole."""
    leaves = [(path_name(path), leaf.ndim) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    return [rule for rule in rules if any(re.search(rule[0], name) and len(rule[1]) == ndim for name, ndim in leaves)]


def _divides(mesh: Mesh, name: str, shape: Sequence[int], spec: Sequence[str | None]) -> Sequence[str | None]:
    for size, axis in zip(shape, spec, strict=True):
        if axis is not None and axis not in AXES:
            raise unknown("mesh axis", axis, AXES)
        if axis is not None and size % mesh.shape[axis]:
            raise UserError(
                f"{name} {tuple(shape)} cannot be split over {axis!r}: {size} is not a multiple of {mesh.shape[axis]}"
            )
    return spec


def put(mesh: Mesh, tree: Mapping[str, np.ndarray], leading: int = 0) -> Any:
    """Puts this process's rows of a batch on its devices; together the processes' rows are the batch."""
    sharding = over_rows(mesh, leading)
    with jax.transfer_guard("allow"):  # meant, though JAX does not take it for an explicit transfer
        return {name: jax.make_array_from_process_local_data(sharding, x) for name, x in tree.items()}


def everywhere(mesh: Mesh, tree: Any) -> Any:
    """Puts a tree of arrays that every process has whole on every device."""

    def put_one(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put_one(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return jax.device_put(np.asarray(x), replicated(mesh))  # of several processes, a host's array alone may go

    return jax.tree.map(put_one, tree)


def bytes_per_device(mesh: Mesh, tree: Any, placed: Any) -> int:
    """Counts the bytes that one device holds of a tree of shapes under its shardings."""
    sizes = jax.tree.map(lambda x, s: int(np.prod(s.shard_shape(x.shape))) * _itemsize(x.dtype), tree, placed)
    return sum(jax.tree.leaves(sizes))


def _itemsize(dtype: Any) -> int:
    return 8 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).itemsize
