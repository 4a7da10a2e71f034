"""Checkpoints with Orbax, with digests of their contents.

A checkpoint is a flat `{name: array}` of the whole state, and JSON beside it with the name, shape, dtype and
digest of every array. Orbax 0.12 by itself deletes the latest step or the best one in easily reached
settings, loses the last save when the interpreter exits, casts a foreign dtype in silence and does not notice
a flipped byte. Here the latest and the best are both kept, a metric that is not finite is never the best,
leaving the `with` block commits pending saves, and every array read is compared with its digest.
"""

import contextlib
import functools
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import path_name
from jaxdistill.errors import UserError
from jaxdistill.runtime import distributed, failures, files, mirror

if TYPE_CHECKING:
    from jaxdistill.train.orbax_files import Manager

FOLDER = files.CHECKPOINTS
CHUNK_BYTES = 2**24
"""Bytes of the pieces in which an array is stored. A reader of a part of an array reads whole pieces; Orbax by default
stores one piece per device, all of which every process of another mesh would read."""

UNRANKED = "none"
"""The name of the metric, nan, that Orbax is given if no number ranks the steps."""


def flatten(tree: Any) -> dict[str, jax.Array]:
    """Names every array of a tree by its path; keys of random numbers become their data."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path).replace("/", "."): _plain(leaf) for path, leaf in leaves}


def _plain(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def unflatten(flat: Mapping[str, jax.Array], like: Any) -> Any:
    """The inverse of `flatten`, for a tree of the structure of `like`."""

    def pick(path: Any, leaf: Any) -> jax.Array:
        array = flat[path_name(path).replace("/", ".")]
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.wrap_key_data(array) if is_key else array

    return jax.tree_util.tree_map_with_path(pick, like)


@jax.jit
def _digests(flat: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    def digest(x: jax.Array) -> jax.Array:
        x = jax.device_put(x, jax.memory.Space.Device)  # an offloaded array is in the host's memory
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        # Numbers of 64 bits become two words in a last axis.
        x = bits = jax.lax.bitcast_convert_type(x, f"uint{min(8 * x.dtype.itemsize, 32)}")
        position = jnp.zeros(x.shape, jnp.uint32)
        for axis, size in enumerate(x.shape):
            position = position * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        # For each position a bijection of the bits, so that a change of any single element changes the digest. In a sum
        # of multiples the sign bits of two elements would cancel: 2^31 times any odd numbers are equal mod 2^32.
        return jnp.sum(_mix(bits.astype(jnp.uint32) ^ _mix(position)), dtype=jnp.uint32)

    return {name: digest(x) for name, x in flat.items()}


def _mix(word: jax.Array) -> jax.Array:
    """Returns the finaliser of MurmurHash3 (Appleby, 2011): a bijection in which every bit depends on all others."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def digests(flat: Mapping[str, jax.Array]) -> dict[str, int]:
    """Returns a 32-bit digest of each array's content, the same on any mesh and any number of processes."""
    # Offloaded arrays together may exceed the device's memory: one array at a time.
    on_host = {name: x for name, x in flat.items() if jax.typeof(x).memory_space == jax.memory.Space.Host}
    groups = [{name: x for name, x in flat.items() if name not in on_host}, *({n: x} for n, x in on_host.items())]
    values = {name: value for group in groups for name, value in jax.device_get(_digests(group)).items()}
    return {name: int(values[name]) for name in flat}


def _shapes(flat: Mapping[str, Any]) -> dict[str, list]:
    return {name: [list(x.shape), str(x.dtype)] for name, x in flat.items()}


class Checkpoints:
    """The checkpoints of one stage, in `folder/checkpoints`; use it in a `with` block.

    Args:
        folder: the stage's folder.
        metrics: the names of the numbers by which steps are ranked; the best step by each of them is kept.
        mode: "max" or "min".
        keep: the number of latest steps that are kept.
        chunk_bytes: the size of the pieces in which an array is stored.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        metrics: Sequence[str] = (),
        mode: str = "max",
        keep: int = 2,
        chunk_bytes: int = CHUNK_BYTES,
    ):
        self.folder, self.metrics, self._chunk_bytes = folder / FOLDER, tuple(metrics), chunk_bytes
        self._mode, self._keep = mode, keep
        self._worst = -math.inf if mode == "max" else math.inf
        self._is_private = mirror.is_private(folder)
        with distributed.refuse_together() if self._is_private else contextlib.nullcontext():
            if self.folder.is_dir() and self._is_writer:  # a damaged checkpoint ends a run before it trains
                _ = self._manager

    @functools.cached_property
    def _manager(self) -> "Manager":
        from jaxdistill.train import orbax_files

        ranks = [functools.partial(self._rank, name) for name in self.metrics or [UNRANKED]]
        try:
            return orbax_files.make_manager(self.folder, ranks, self._mode, self._keep, is_private=self._is_private)
        except ValueError as error:  # it reads the metrics of every step at once
            raise damage(self.folder, _first_unreadable(self.folder), error) from error

    @property
    def _is_writer(self) -> bool:
        """Whether this process has a manager: all do, or the first alone of those that do not see its folder."""
        return not self._is_private or jax.process_index() == 0

    def _agree(self, find: Callable[[], Any]) -> Any:
        """Returns what the manager finds, JSON; all processes call it together."""
        if not self._is_private:
            return find()
        return json.loads(distributed.from_first_process(json.dumps(find()) if self._is_writer else ""))

    @property
    def _has_manager(self) -> bool:
        return "_manager" in vars(self)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_manager:
            self._manager.close()

    @property
    def steps(self) -> list[int]:
        return self._agree(self._find_steps)

    def _find_steps(self) -> list[int]:
        return sorted(self._manager.all_steps()) if self._has_manager else []

    def _rank(self, name: str, metrics: Mapping[str, float] | None) -> float:
        value = (metrics or {}).get(name)
        return value if value is not None and math.isfinite(value) else self._worst

    def best(self, metric: str) -> int | None:
        """Returns the step with the best finite value, of equals the latest, or `None` if no step has one."""
        return self._agree(functools.partial(self._find_best, metric))

    def _find_best(self, metric: str) -> int | None:
        ranked = {step: self._rank(metric, self._manager.metrics(step)) for step in self._find_steps()}
        finite = [step for step, value in ranked.items() if value != self._worst]
        # Orbax sorts in the same stable way to choose the best step that it preserves.
        return sorted(finite, key=lambda step: ranked[step], reverse=self._mode == "min")[-1] if finite else None

    def save(self, step: int, state: Any, metrics: Mapping[str, float], about: Mapping[str, Any]) -> None:
        """Writes `state` in the background; its arrays may be donated at once. A step that exists is not replaced."""
        from jaxdistill.train import orbax_files

        if step in self.steps:
            return
        flat = flatten(state)
        metadata = {"arrays": _shapes(flat), "digests": digests(flat), "about": dict(about)}
        arrays = gather_on_first(flat) if self._is_private else flat
        if not self._is_writer:
            return
        values = {name: float(metrics.get(name, math.nan)) for name in self.metrics or [UNRANKED]}
        orbax_files.save(self._manager, step, arrays, metadata, metrics=values, chunk_bytes=self._chunk_bytes)

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        if self._has_manager:
            self._manager.wait_until_finished()

    def restore(self, step: int, like: Any) -> Any:
        """Reads a whole state; `like` is a tree of `ShapeDtypeStruct`s with shardings."""
        return unflatten(read(self.folder, step, flatten_structs(like)), like)


def gather_on_first(flat: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Returns whole arrays in the memory of the first process, and nothing on the others; all call it together.

    One array at a time is on each device as a whole.
    """
    whole = {}
    for name, x in flat.items():
        copy = x if x.is_fully_replicated else _replicate(x)
        if jax.process_index() == 0:
            whole[name] = np.asarray(copy.addressable_data(0))  # of which JAX donates no memory
    return whole


def _replicate(x: jax.Array) -> jax.Array:
    sharding: Any = x.sharding
    whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.jit(lambda x: jax.device_put(x, jax.memory.Space.Device), out_shardings=whole)(x)


def flatten_structs(tree: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """`flatten` for a tree of shapes: a random key is the shape of its data."""

    def plain(leaf: Any) -> jax.ShapeDtypeStruct:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=getattr(leaf, "sharding", None))

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path).replace("/", "."): plain(leaf) for path, leaf in leaves}


def steps_in(folder: pathlib.Path) -> list[int]:
    """Returns the committed steps in a `checkpoints` folder."""
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit()) if folder.is_dir() else []


def _first_unreadable(folder: pathlib.Path) -> int:
    """Returns the first step whose metrics cannot be read."""
    for step in steps_in(folder):
        try:
            json.loads((folder / str(step) / "metrics" / "metrics").read_text())
        except (OSError, ValueError):
            return step
    return steps_in(folder)[-1]


def metadata(folder: pathlib.Path, step: int) -> dict[str, Any]:
    """Reads the names, shapes, dtypes and digests of a checkpoint's arrays, and its writer's notes (`about`).

    Raises:
        UserError: if that step is missing or half-written, with the other steps.
    """
    if step not in steps_in(folder):
        raise UserError(f"no checkpoint of step {step} in {folder}; there are {steps_in(folder)}")
    return _read_item(folder, step, None)


def _read_item(folder: pathlib.Path, step: int, wanted: Mapping[str, jax.ShapeDtypeStruct] | None) -> Any:
    """Reads arrays of a checkpoint, or its metadata; a failure of Orbax is a `UserError`."""
    from jaxdistill.train import orbax_files

    path = folder / str(step)
    try:
        return orbax_files.read_metadata(path) if wanted is None else orbax_files.read_arrays(path, wanted)
    except Exception as error:  # Orbax raises bare Exceptions for truncated files
        raise damage(folder, step, error) from error


def damage(folder: pathlib.Path, step: int, reason: object) -> UserError:
    """Returns the error of a damaged checkpoint, with the earlier one to continue from.

    One that cannot be read for want of permission may be whole, so that its error names no removal.
    """
    refused = [reason] if isinstance(reason, BaseException) else []
    for _ in os.walk(folder / str(step), onerror=refused.append):  # Orbax calls such a folder missing
        pass
    for error in filter(failures.is_of_access, refused):
        return failures.describe(error) or UserError(str(error))
    earlier = [candidate for candidate in steps_in(folder) if candidate < step]
    done = folder.parent / "done.json"
    paths = f"{folder / str(step)}" + (f" and {done}" if done.exists() else "")
    remedy = (
        f"the step before, {earlier[-1]}, may be good: to continue from it, remove {paths} and repeat the command that"
        " made them"
        if earlier
        else f"no earlier step is kept; to make it again, move {folder.parent} away and repeat the command that made it"
    )
    line = " ".join(str(reason).split())[:200]
    return UserError(f"the checkpoint of step {step} in {folder} is damaged or not jaxdistill's ({line}); {remedy}")


def check(
    folder: pathlib.Path,
    step: int,
    wanted: Mapping[str, jax.ShapeDtypeStruct],
    prefixes: tuple[str, ...] = ("",),
    leaves_out: Callable[[str], bool] = lambda name: False,
) -> dict[str, Any]:
    """Checks the names and shapes of a checkpoint without reading an array.

    Args:
        folder: a `checkpoints` folder.
        step: the step of the checkpoint.
        wanted: the expected arrays, by name.
        prefixes: the arrays to check; names that start otherwise are ignored.
        leaves_out: `name -> bool`, whether an array may be there that is not expected.

    Returns:
        The checkpoint's `metadata`.

    Raises:
        UserError: if the checkpoint is missing, half-written, or another network's; the last with the expected
            entries (-) and the actual ones (+).
    """
    meta = metadata(folder, step)
    actual = {name: shape for name, shape in meta["arrays"].items() if name.startswith(prefixes)}
    actual = {name: shape for name, shape in actual.items() if name in wanted or not leaves_out(name)}
    lines = files.diff_lines(_shapes(wanted), actual, limit=6)
    if lines:
        raise UserError(
            f"the checkpoint of step {step} in {folder} is of another network or optimizer; expected and missing (-),"
            " present instead (+):\n  " + "\n  ".join(lines)
        )
    return meta


def read(
    folder: pathlib.Path,
    step: int,
    wanted: Mapping[str, jax.ShapeDtypeStruct],
    prefixes: tuple[str, ...] = ("",),
    leaves_out: Callable[[str], bool] = lambda name: False,
) -> dict[str, jax.Array]:
    """Reads arrays by name onto the shardings of `wanted`; the arguments are those of `check`.

    Raises:
        UserError: as `check`, and if the checkpoint was altered.
    """
    meta = check(folder, step, wanted, prefixes, leaves_out=leaves_out)
    arrays = _read_item(folder, step, wanted)
    altered = [name for name, value in digests(arrays).items() if value != meta["digests"][name]]
    if altered:
        raise damage(folder, step, f"altered since it was written: {altered[:4]}")
    return arrays
