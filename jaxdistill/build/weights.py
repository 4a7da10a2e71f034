"""Weights of one network in a checkpoint: its place, its metadata, and its arrays."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.build import lanes
from jaxdistill.config.references import WeightsRef
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import ImageSpec
from jaxdistill.networks.meaning import Meaning
from jaxdistill.runtime import files
from jaxdistill.train import checkpoint

DONE = "done.json"
"""The file of a finished stage: its metadata, such as the checkpoint step that it selected."""

RUN_AGAIN = "Remove it: the stage then goes on from its last checkpoint, or from the start."


@dataclasses.dataclass(frozen=True)
class CheckpointRef:
    """A network in an existing checkpoint.

    Attributes:
        folder: the folder of the checkpoints of a stage.
        step: the step of one of them.
        network: the network's name there.
        lane: its lane, if the stage trained several.
    """

    folder: pathlib.Path
    step: int
    network: str
    lane: int | None = None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata that the stage stored with the arrays."""
        return checkpoint.metadata(self.folder, self.step).get("about", {})

    @property
    def image_spec(self) -> ImageSpec | None:
        """The images that the network was trained on; `None` if the metadata do not hold them."""
        spec = self.metadata.get("image_specs", {}).get(self.network)
        return ImageSpec(*(tuple(spec[key]) for key in ("shape", "mean", "std"))) if spec else None

    @property
    def meaning(self) -> Meaning:
        """The network's classes and tokenizer, if the metadata hold them."""
        return Meaning.parse(self.metadata.get("meanings", {}).get(self.network, {}))

    @property
    def prefixes(self) -> tuple[str, str]:
        """The beginnings of the names of its arrays."""
        return f"params.{self.network}.", f"variables.{self.network}."


def find_checkpoint(ref: WeightsRef, network: str, workdir: pathlib.Path, lane: int | None = None) -> CheckpointRef:
    """Returns the checkpoint that a reference means for the network called `network`.

    Args:
        ref: the reference.
        network: the network that starts from it.
        workdir: the folder of the run, for its own stages.
        lane: the lane to take if there are lanes and the reference names none.

    Raises:
        UserError: if there is none, or it holds several networks and none of that name.
    """
    path = f"weights='{ref}' of network {network!r}"
    folder = workdir / ref.stage if ref.folder is None else ref.folder
    root = folder / files.CHECKPOINTS
    if not root.is_dir() and ref.folder is None and (folder / DONE).exists():
        raise UserError(f"{path}: no checkpoints in {root}. Remove {folder / DONE}: the stage then runs again")
    if not root.is_dir():
        raise UserError(
            f"{path}: no checkpoints in {root}; name the folder of a finished"
            " stage (runs/NAME/teacher), a checkpoint in it (runs/NAME/teacher/checkpoints/1200), or stage:NAME"
        )
    steps = checkpoint.steps_in(root)
    step = _selected_step(folder, steps, lane if ref.lane is None else ref.lane) if ref.step is None else ref.step
    if step not in steps:
        raise UserError(f"{path}: no step {step} in {root}; there are {steps}")
    names = _networks_in(root, step)
    name = ref.network or (network if network in names or len(names) != 1 else names[0])
    if name not in names:
        raise unknown(f"network in {root / str(step)}", name, names)
    checkpoint_ref = CheckpointRef(root, step, name)
    return dataclasses.replace(
        checkpoint_ref, lane=lanes.choose_lane(path, checkpoint_ref.metadata, ref.lane, default=lane)
    )


def _selected_step(folder: pathlib.Path, steps: Sequence[int], lane: int | None) -> int | None:
    """Returns the step that a finished stage selected (for a lane), or the last step of an unfinished one."""
    if not (folder / DONE).is_file():
        return max(steps, default=None)
    return lanes.selected_step(files.read_json(folder / DONE, dict, fix=RUN_AGAIN), lane)


def _networks_in(folder: pathlib.Path, step: int) -> list[str]:
    metadata = CheckpointRef(folder, step, "").metadata
    if "networks" not in metadata:
        raise UserError(
            f"the checkpoint of step {step} in {folder} has no list of networks; it was probably not written by"
            " jaxdistill"
        )
    return sorted(metadata["networks"])


def check(ref: CheckpointRef, shapes: Mapping[str, Any]) -> None:
    """Raises `UserError` if a checkpoint is of a network of another shape; reads no array."""
    checkpoint.check(ref.folder, ref.step, _stored_structs(ref, shapes, _stored_names(ref, shapes)), ref.prefixes)


def read(ref: CheckpointRef, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a network's variables, on each process the parts of its devices."""
    return read_all([ref], shapes)[0]


def read_all(refs: Sequence[CheckpointRef], shapes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reads the variables of a network from several checkpoints; lanes of one checkpoint are read at once.

    Args:
        refs: from `find_checkpoint`.
        shapes: `{collection: tree}` of `ShapeDtypeStruct`s with shardings.

    Raises:
        UserError: if the checkpoint is damaged, of a network of another shape, or has NaN in an array.
    """
    variables: dict[CheckpointRef, dict[str, Any]] = {}
    for first in {dataclasses.replace(ref, lane=None): ref for ref in refs}.values():
        names = _stored_names(first, shapes)
        arrays = checkpoint.read(first.folder, first.step, _stored_structs(first, shapes, names), first.prefixes)
        _check_numbers(first, arrays)
        for ref in refs:
            if dataclasses.replace(ref, lane=first.lane) == first:
                flat = arrays if ref.lane is None else {name: x[ref.lane] for name, x in arrays.items()}
                variables[ref] = checkpoint.unflatten({name: flat[stored] for name, stored in names.items()}, shapes)
    return [variables[ref] for ref in refs]


def _check_numbers(ref: CheckpointRef, arrays: Mapping[str, jax.Array]) -> None:
    """Raises `UserError` if an array has NaN in the parts that this process holds.

    A loss of NaN at the first step would be all that a user sees of it.
    """
    names = [
        name
        for name, array in arrays.items()
        if jnp.issubdtype(array.dtype, jnp.inexact)
        and any(np.isnan(np.asarray(shard.data)).any() for shard in array.addressable_shards)
    ]
    if names:
        raise UserError(
            f"weights of network {ref.network!r} in {ref.folder / str(ref.step)} must be numbers, got NaN in"
            f" {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}. Take another step or train that network again"
        )


def _stored_structs(
    ref: CheckpointRef, shapes: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, jax.ShapeDtypeStruct]:
    structs = {names[name]: struct for name, struct in checkpoint.flatten_structs(shapes).items()}
    if ref.lane is None:
        return structs
    metadata = ref.metadata
    return {name: lanes.stack_struct(struct, metadata) for name, struct in structs.items()}


def _stored_names(ref: CheckpointRef, shapes: Mapping[str, Any]) -> dict[str, str]:
    """Returns the name in the checkpoint of each variable: an average of weights keeps params as variables."""
    arrays = checkpoint.metadata(ref.folder, ref.step)["arrays"]
    is_average = any(name.startswith(f"variables.{ref.network}.params.") for name in arrays)

    def stored_name(name: str) -> str:
        collection, _, rest = name.partition(".")
        if collection == "params" and not is_average:
            return f"params.{ref.network}.{rest}"
        return f"variables.{ref.network}.{name}"

    return {name: stored_name(name) for name in checkpoint.flatten_structs(shapes)}


def check_same_shapes(path: str, variables: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises `UserError` with lines of + and - if two networks' variables differ in name or shape."""
    actual_shapes, expected_shapes = (
        {core.path_name(path): list(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (variables, expected)
    )
    lines = files.diff_lines(expected_shapes, actual_shapes, limit=6)
    if lines:
        raise UserError(f"{path} is another network; expected (-) and there (+):\n  " + "\n  ".join(lines))


def fingerprint(ref: CheckpointRef) -> str:
    """Returns a digest of a network's weights, whatever its name, from the digests of its checkpoint."""
    first, second = ref.prefixes
    digests = {}
    for name, digest in checkpoint.metadata(ref.folder, ref.step)["digests"].items():
        if name.startswith(first):
            digests[name.removeprefix(first)] = digest
        elif name.startswith(second):
            digests[name.removeprefix(second).replace("params.", "", 1)] = digest
    return files.json_digest([digests, {"lane": str(ref.lane), "image_spec": str(ref.image_spec)}])
