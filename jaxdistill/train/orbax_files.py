"""Files of a checkpoint, by Orbax.

Orbax takes a tenth of a start to import, and a new run needs it at its first save only: `checkpoint.py` imports this
module where a checkpoint is read or written.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

Rank = Callable[[Mapping[str, float] | None], float]


class Manager(ocp.CheckpointManager):
    """Orbax's manager, which leaves preemption to the run.

    Each save would call JAX's sync point with the step as its number. Processes agree on a stop by the number of the
    last call, so that a notice just after a save would name a number that the run's own calls have passed.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


FIRST_ALONE = {"primary_host": 0, "active_processes": {0}, "barrier_sync_key_prefix": "first"}
"""Orbax's options of a manager that the first of several processes has, and no other one."""


def make_manager(
    folder: pathlib.Path, ranks: Sequence[Rank], mode: str, keep: int, *, is_private: bool = False
) -> Manager:
    """Returns the manager of a folder, which keeps the latest steps and the best one by each rank.

    Args:
        folder: of the checkpoints.
        ranks: functions of the metrics of a step.
        mode: "max" or "min".
        keep: the number of latest steps.
        is_private: whether the first process alone saves there, for the others do not see the folder.
    """
    processes = ocp.options.MultiprocessingOptions(**FIRST_ALONE if is_private else {})
    best = [preservation_policy.BestN(get_metric_fn=rank, reverse=mode == "min", n=1) for rank in ranks]
    options = ocp.CheckpointManagerOptions(
        best_fn=ranks[0],
        best_mode=mode,
        cleanup_tmp_directories=True,
        create=not is_private,
        multiprocessing_options=processes,
        preservation_policy=preservation_policy.AnyPreservationPolicy([preservation_policy.LatestN(keep), *best]),
    )
    return Manager(folder.absolute(), options=options)


def save(
    manager: Manager,
    step: int,
    flat: Mapping[str, jax.Array | np.ndarray],
    metadata: Mapping[str, Any],
    *,
    metrics: Mapping[str, float],
    chunk_bytes: int,
) -> None:
    """Writes arrays in the background, in pieces of `chunk_bytes`, with metadata and metrics as JSON beside them."""
    parts = dict.fromkeys(flat, ocp.SaveArgs(chunk_byte_size=chunk_bytes))
    items = ocp.args.Composite(state=ocp.args.StandardSave(flat, parts), meta=ocp.args.JsonSave(metadata))
    manager.save(step, args=items, metrics=metrics, force=True)


def read_metadata(folder: pathlib.Path) -> Any:
    """Returns the metadata of a checkpoint's folder."""
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore((folder / "meta").absolute())


def read_arrays(folder: pathlib.Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads arrays of a checkpoint's folder by name, onto the shardings of `wanted`."""
    args = ocp.args.PyTreeRestore(
        item=dict(wanted),
        restore_args={n: ocp.ArrayRestoreArgs(sharding=x.sharding, dtype=x.dtype) for n, x in wanted.items()},
        partial_restore=True,
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore((folder / "state").absolute(), args=args)
