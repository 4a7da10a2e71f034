"""Checkpoints: Orbax's, behind one small wrapper that closes what it leaves open.

A checkpoint is a flat `{name: array}` of the whole state, and JSON beside it with the name, shape, dtype and
digest of every array. Orbax 0.12 by itself deletes the latest step or the best one in easily reached
settings, loses the last save when the interpreter exits, casts a foreign dtype in silence and does not notice
a flipped byte; here the latest and the best are both kept, a metric that is not finite is never the best,
leaving the `with` block commits what is under way, and every array read is compared with its digest.
"""

import functools
import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keeping

from jaxdistill.core import path_name
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

FOLDER = "checkpoints"
CHUNK = 2**24
"""Bytes of the pieces in which an array is stored: a reader of a part of it reads the pieces that it touches, whole. By
itself Orbax stores what one device held as one piece, of which every process of another mesh would then read all."""


def flatten(tree: Any) -> dict[str, jax.Array]:
    """Names every array of a tree by its path; keys of random numbers become their data."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path).replace("/", "."): _plain(leaf) for path, leaf in leaves}


def _plain(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def unflatten(flat: Mapping[str, jax.Array], like: Any) -> Any:
    """The inverse of `flatten`, for a tree of the structure of `like`."""

    def pick(path, leaf):
        found = flat[path_name(path).replace("/", ".")]
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.wrap_key_data(found) if is_key else found

    return jax.tree_util.tree_map_with_path(pick, like)


@jax.jit
def _digests(flat: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    def one(x):
        x = jax.device_put(x, jax.memory.Space.Device)  # from the host's memory, where it was put there
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
        place = jnp.zeros(x.shape, jnp.uint32)
        for axis, size in enumerate(x.shape):
            place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        # Odd multipliers are invertible mod 2^32, so no change of a single element goes unseen.
        return jnp.sum(bits.astype(jnp.uint32) * (place * jnp.uint32(2654435761) * 2 + 1), dtype=jnp.uint32)

    return {name: one(x) for name, x in flat.items()}


def digests(flat: Mapping[str, jax.Array]) -> dict[str, int]:
    """A 32-bit digest of each array's content, the same on any mesh and any number of processes."""
    # What lives in the host's memory may be more than the device has room for: one array at a time.
    away = {name: x for name, x in flat.items() if jax.typeof(x).memory_space == jax.memory.Space.Host}
    groups = [{name: x for name, x in flat.items() if name not in away}, *({name: x} for name, x in away.items())]
    found = {name: value for group in groups for name, value in jax.device_get(_digests(group)).items()}
    return {name: int(found[name]) for name in flat}


def _shapes(flat: Mapping[str, Any]) -> dict[str, list]:
    return {name: [list(x.shape), str(x.dtype)] for name, x in flat.items()}


class Checkpoints:
    """The checkpoints of one stage, in `folder/checkpoints`; use it in a `with` block.

    Args:
        folder: the stage's folder.
        metric: the name of the number that `best` goes by; "" where there is none.
        mode: "max" or "min".
        keep: how many of the latest steps stay.
        lanes: how many runs the state holds; the best step of each of them stays, by `LANE/METRIC`.
    """

    def __init__(self, folder: pathlib.Path, metric: str = "", mode: str = "max", keep: int = 2, lanes: int = 0):
        self.folder, self.metric = folder / FOLDER, metric
        self.ranked = [f"{lane}/{metric}" for lane in range(lanes)] if metric and lanes else [metric]
        self._worst = -math.inf if mode == "max" else math.inf
        self._reverse = mode == "min"
        ranks = [functools.partial(self._rank, name) for name in self.ranked]
        best = [keeping.BestN(get_metric_fn=rank, reverse=self._reverse, n=1) for rank in ranks]
        options = ocp.CheckpointManagerOptions(
            best_fn=ranks[0],
            best_mode=mode,
            cleanup_tmp_directories=True,
            preservation_policy=keeping.AnyPreservationPolicy([keeping.LatestN(keep), *best]),
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder.absolute(), options=options)
        except ValueError as error:  # it reads the metrics of every step at once
            raise damaged(self.folder, _unreadable(self.folder), error) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()

    @property
    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def _rank(self, name: str, metrics: Mapping[str, float] | None) -> float:
        value = (metrics or {}).get(name)
        return value if value is not None and math.isfinite(value) else self._worst

    def best(self, lane: int = 0) -> int | None:
        """The step with the best finite metric, of several the latest, or `None` where no step has one."""
        ranked = {step: self._rank(self.ranked[lane], self._manager.metrics(step)) for step in self.steps}
        finite = [step for step, value in ranked.items() if value != self._worst]
        # As in Orbax's own order, by which it keeps what is best: equals stay in their order.
        return sorted(finite, key=ranked.get, reverse=self._reverse)[-1] if self.metric and finite else None

    def save(self, step: int, state: Any, metrics: Mapping[str, float], about: Mapping[str, Any]) -> None:
        """Writes `state` in the background; the arrays may be donated at once. A step once written stays."""
        if step in self.steps:
            return
        flat = flatten(state)
        meta = {"arrays": _shapes(flat), "digests": digests(flat), "about": dict(about)}
        values = {name or "none": float(metrics.get(name, math.nan)) for name in self.ranked}
        parts = dict.fromkeys(flat, ocp.SaveArgs(chunk_byte_size=CHUNK))
        saved = ocp.args.Composite(state=ocp.args.StandardSave(flat, parts), meta=ocp.args.JsonSave(meta))
        self._manager.save(step, args=saved, metrics=values, force=True)

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        self._manager.wait_until_finished()

    def restore(self, step: int, like: Any) -> Any:
        """Reads a whole state; `like` is a tree of `ShapeDtypeStruct`s with shardings."""
        return unflatten(read(self.folder, step, flatten_structs(like)), like)


def flatten_structs(tree: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """`flatten` for a tree of shapes: a random key is the shape of its data."""

    def plain(leaf):
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=getattr(leaf, "sharding", None))

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path).replace("/", "."): plain(leaf) for path, leaf in leaves}


def steps_in(folder: pathlib.Path) -> list[int]:
    """The committed steps in a `checkpoints` folder."""
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit()) if folder.is_dir() else []


def _unreadable(folder: pathlib.Path) -> int:
    """The first step whose metrics cannot be read."""
    for step in steps_in(folder):
        try:
            json.loads((folder / str(step) / "metrics" / "metrics").read_text())
        except (OSError, ValueError):
            return step
    return steps_in(folder)[-1]


def about(folder: pathlib.Path, step: int) -> dict[str, Any]:
    """Reads what was written beside a checkpoint: its arrays' names, shapes, dtypes and digests.

    Raises:
        UserError: where that step is missing or half-written, naming the other steps.
    """
    if step not in steps_in(folder):
        raise UserError(f"no checkpoint of step {step} in {folder}; there are {steps_in(folder)}")
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            return reader.restore((folder / str(step) / "meta").absolute())
    except Exception as error:  # Orbax raises bare Exceptions for truncated files
        raise damaged(folder, step, error) from error


def damaged(folder: pathlib.Path, step: int, why: object) -> UserError:
    """Tells that a checkpoint cannot be used, and which earlier one can be."""
    _quiet_about_loops()
    earlier = [other for other in steps_in(folder) if other < step]
    done = folder.parent / "done.json"
    gone = f"{folder / str(step)}" + (f" and {done}" if done.exists() else "")
    remedy = (
        f"the step before, {earlier[-1]}, may be good: to go on from it, remove {gone} and run again what made them"
        if earlier
        else f"no earlier step is kept; to make it again, move {folder.parent} away and run again what made it"
    )
    reason = " ".join(str(why).split())[:200]
    return UserError(f"the checkpoint of step {step} in {folder} is damaged, or not one of ours ({reason}); {remedy}")


def _quiet_about_loops() -> None:
    """Orbax leaves its event loop to the garbage collector when a read fails, which prints a traceback."""
    usual = sys.unraisablehook

    def hook(unraisable):
        if "Event loop is closed" not in str(unraisable.exc_value):
            usual(unraisable)

    sys.unraisablehook = hook


def check(
    folder: pathlib.Path, step: int, wanted: Mapping[str, jax.ShapeDtypeStruct], prefixes: tuple[str, ...] = ("",)
) -> dict[str, Any]:
    """Checks the names and shapes of a checkpoint, and reads no array.

    Args:
        folder: a `checkpoints` folder.
        step: which.
        wanted: what is expected, by name.
        prefixes: names that start otherwise are no concern of the reader's.

    Returns:
        What `about` tells.

    Raises:
        UserError: where the checkpoint is missing, half-written, or another network's; the last with what was
            expected (-) and what is there (+).
    """
    meta = about(folder, step)
    there = {name: shape for name, shape in meta["arrays"].items() if name.startswith(prefixes)}
    expected = _shapes(wanted)
    lines = files.diff_lines(expected, there, limit=6)
    if lines:
        raise UserError(
            f"the checkpoint of step {step} in {folder} is of another network or optimizer; what was expected (-) and"
            " is not there, what is there (+) instead:\n  " + "\n  ".join(lines)
        )
    return meta


def read(
    folder: pathlib.Path, step: int, wanted: Mapping[str, jax.ShapeDtypeStruct], prefixes: tuple[str, ...] = ("",)
) -> dict[str, jax.Array]:
    """Reads arrays by name onto the shardings of `wanted`; the arguments are those of `check`.

    Raises:
        UserError: as `check`, and where the checkpoint was altered.
    """
    meta = check(folder, step, wanted, prefixes)
    try:
        args = ocp.args.PyTreeRestore(
            item=dict(wanted),
            restore_args={n: ocp.ArrayRestoreArgs(sharding=x.sharding, dtype=x.dtype) for n, x in wanted.items()},
            partial_restore=True,
        )
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            found = reader.restore((folder / str(step) / "state").absolute(), args=args)
    except Exception as error:  # as above
        raise damaged(folder, step, error) from error
    altered = [name for name, value in digests(found).items() if value != meta["digests"][name]]
    if altered:
        raise damaged(folder, step, f"altered since it was written: {altered[:4]}")
    return found
