"""The mesh with the axes `data`, `fsdp` and `tensor`, and arrays on its devices.

One program serves one core and a pod: arrays are replicated unless a rule splits them (`train.partitioning`), batches
are split over `data` and `fsdp`. The axes are of JAX's Auto kind: under Explicit axes ordinary Linen code does not
trace.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdistill.errors import UserError, unknown
from jaxdistill.networks.batch_sharding import BATCH_AXES
from jaxdistill.runtime import topology

AXES = (*BATCH_AXES, "tensor")

P = ParamSpec("P")
T = TypeVar("T")


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Makes the mesh; one size may be -1, for all devices that the others leave.

    Raises:
        UserError: for unknown axes, and sizes whose product is not the number of devices.
    """
    for name in sizes:
        if name not in AXES:
            raise unknown("mesh axis", name, AXES)
    devices = topology.devices() if devices is None else devices
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
    """Returns the sharding that splits the batch axis, which comes after `leading` others."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, BATCH_AXES))


def traced_on(mesh: Mesh, function: Callable[P, T]) -> Callable[P, T]:
    """Returns a function that is traced with a mesh, for `jit`: its activations stay split as the batch is.

    With one device of this process's backend nothing changes. Another backend is one that is compiled for.
    """
    if mesh.size == 1 and mesh.devices.flat[0].platform == jax.default_backend():
        return function

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **kwargs)

    return traced


def num_blocks(mesh: Mesh) -> int:
    """Returns the number of blocks of rows that a batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


@functools.cache
def process_blocks(mesh: Mesh, process: int | None = None) -> tuple[int, ...]:
    """Returns the numbers of the blocks of rows that a process's devices hold, ascending.

    Args:
        mesh: the devices, in any order: on a pod it follows the topology.
        process: the index of the process; `None` for this one.
    """
    process = jax.process_index() if process is None else process
    blocks = over_rows(mesh).devices_indices_map((num_blocks(mesh),))
    return tuple(sorted({rows.start or 0 for device, (rows,) in blocks.items() if device.process_index == process}))


def check_batch(mesh: Mesh, batch: int, accumulate: int) -> None:
    """Raises `UserError` for a batch that micro-batches or devices do not divide."""
    devices = num_blocks(mesh)
    for number, name in ((accumulate, "accumulate"), (devices * accumulate, "the mesh's data x fsdp (x accumulate)")):
        if number < 1 or batch < 1 or batch % number:
            near = max(number, batch // number * number) if number > 0 else batch
            raise UserError(
                f"batch must be a multiple of {name} = {number}, got {batch}. Take {near} or {near + max(number, 1)}"
            )


def put(mesh: Mesh, tree: Mapping[str, np.ndarray], leading: int = 0) -> Any:
    """Puts the blocks of a batch that this process reads, in order, on its devices.

    Together the processes' blocks are the batch; a block that several of them read is the same in all.
    """
    sharding, blocks = over_rows(mesh, leading), process_blocks(mesh)

    def put_one(x: np.ndarray) -> jax.Array:
        size = x.shape[leading] // len(blocks)

        def block(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            start = size * blocks.index((index[leading].start or 0) // size)
            return x[(*index[:leading], slice(start, start + size))]

        return jax.make_array_from_callback(_whole_shape(mesh, x, leading), sharding, block)

    with jax.transfer_guard("allow"):  # the guard takes this call for an implicit transfer
        return {name: put_one(x) for name, x in tree.items()}


def batch_structs(mesh: Mesh, tree: Mapping[str, np.ndarray], leading: int = 0) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of the whole batch of which this process has some blocks."""
    return {name: jax.ShapeDtypeStruct(_whole_shape(mesh, x, leading), x.dtype) for name, x in tree.items()}


def _whole_shape(mesh: Mesh, x: np.ndarray, leading: int) -> tuple[int, ...]:
    rows = x.shape[leading] // len(process_blocks(mesh)) * num_blocks(mesh)
    return (*x.shape[:leading], rows, *x.shape[leading + 1 :])


def spread(tree: Any, placed: Any) -> Any:
    """Puts a tree of arrays that every process has in full onto its shardings, keys of random numbers included."""

    def put_one(x: Any, sharding: NamedSharding) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put_one(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
        x = np.asarray(x)  # with several processes only an array of the host can be split
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put_one, tree, placed)


def everywhere(mesh: Mesh, tree: Any) -> Any:
    """Puts a tree of arrays that every process has in full on every device."""
    return spread(tree, jax.tree.map(lambda _: replicated(mesh), tree))


def structs(tree: Any, placed: Any) -> Any:
    """Returns a tree of shapes with its shardings."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, placed)


def bytes_per_device(tree: Any, placed: Any) -> int:
    """Counts the bytes of one device's part of a tree of shapes under its shardings, in whichever memory it is."""
    sizes = jax.tree.map(lambda x, s: int(np.prod(s.shard_shape(x.shape))) * _itemsize(x.dtype), tree, placed)
    return sum(jax.tree.leaves(sizes))


def _itemsize(dtype: Any) -> int:
    return 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).itemsize
