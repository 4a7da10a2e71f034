"""Weights of one network in a checkpoint or in another format: their place, their metadata, and their arrays."""

import dataclasses
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.build import lanes
from jaxdistill.compress.views import view_of, without_views
from jaxdistill.config.references import TAIL, WeightsRef
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import ImageSpec
from jaxdistill.networks.meaning import Meaning
from jaxdistill.pretrained import Pretrained, open_weights
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
        ref: the reference, which may leave out the head or take some of the blocks.
    """

    folder: pathlib.Path
    step: int
    network: str
    lane: int | None = None
    ref: WeightsRef = dataclasses.field(default_factory=WeightsRef)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata that the stage stored with the arrays."""
        return checkpoint.metadata(self.folder, self.step).get("about", {})

    @property
    def image_spec(self) -> ImageSpec | None:
        """The images that the network was trained on; `None` if the metadata do not hold them."""
        spec = self.metadata.get("image_specs", {}).get(self.network)
        return ImageSpec.parse(spec) if spec else None

    @property
    def meaning(self) -> Meaning:
        """The network's classes and tokenizer, if the metadata hold them."""
        meaning = Meaning.parse(self.metadata.get("meanings", {}).get(self.network, {}))
        return meaning.without_classes() if self.ref.new_head else meaning

    @property
    def prefixes(self) -> tuple[str, str]:
        """The beginnings of the names of its arrays."""
        return f"params.{self.network}.", f"variables.{self.network}."

    def leaves_out(self, stored: str) -> bool:
        """Whether the reference leaves out an array of the checkpoint."""
        first, second = self.prefixes
        rest = stored.removeprefix(second)
        return self.ref.leaves_out(f"params.{stored.removeprefix(first)}" if rest == stored else rest)

    @property
    def views(self) -> set[str]:
        """The views whose arrays it has; "" stands for those of the module."""
        arrays = checkpoint.metadata(self.folder, self.step)["arrays"]
        first, second = self.prefixes
        views = {view_of(f"params.{name.removeprefix(first)}") for name in arrays if name.startswith(first)}
        return views | {view_of(name.removeprefix(second)) for name in arrays if name.startswith(second)}

    def without_lane(self) -> Self:
        """Returns the reference to all lanes."""
        return dataclasses.replace(self, lane=None)

    def check(self, shapes: Mapping[str, Any]) -> None:
        """Raises `UserError` if the weights are of a network of another shape; reads no array."""
        structs = _stored_structs(self, shapes, _stored_names(self, shapes))
        checkpoint.check(self.folder, self.step, structs, self.prefixes, leaves_out=self.leaves_out)

    def read_lanes(self, lanes: Sequence[int | None], shapes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Reads the network's variables in each of some lanes, or without lanes if that is `None`, at once."""
        names = _stored_names(self, shapes)
        structs = _stored_structs(self, shapes, names)
        arrays = checkpoint.read(self.folder, self.step, structs, self.prefixes, leaves_out=self.leaves_out)
        _check_numbers(self, arrays)
        variables = []
        for lane in lanes:
            flat = {name: arrays[stored] if lane is None else arrays[stored][lane] for name, stored in names.items()}
            variables.append(checkpoint.unflatten(flat, _without_missing(shapes, flat)))
        return variables

    def fingerprint(self) -> str:
        """Returns a digest of the weights, whatever the network's name, from the digests in the checkpoint."""
        first, second = self.prefixes
        digests = {}
        for name, digest in checkpoint.metadata(self.folder, self.step)["digests"].items():
            if name.startswith(first):
                digests[name.removeprefix(first)] = digest
            elif name.startswith(second):
                digests[name.removeprefix(second).replace("params.", "", 1)] = digest
        return files.json_digest([digests, {"lane": str(self.lane), "image_spec": str(self.image_spec)}])


@dataclasses.dataclass(frozen=True, eq=False)
class PretrainedRef:
    """A network in the format of another library.

    Attributes:
        ref: the reference.
        network: the name of the network here.
        pretrained: its weights.
    """

    ref: WeightsRef
    network: str
    pretrained: Pretrained
    lane = None
    metadata: ClassVar[Mapping[str, Any]] = {}
    views: ClassVar[Collection[str]] = {""}

    @property
    def image_spec(self) -> ImageSpec | None:
        """The images that the network expects."""
        return self.pretrained.image_spec

    @property
    def meaning(self) -> Meaning:
        """The network's classes and tokenizer."""
        meaning = self.pretrained.meaning
        return meaning.without_classes() if self.ref.new_head else meaning

    def without_lane(self) -> Self:
        """Returns the reference itself: no format has lanes."""
        return self

    def check(self, shapes: Mapping[str, Any]) -> None:
        """Raises `UserError` if the weights are of a network of another shape; reads no array."""
        self.pretrained.check(without_views(shapes), self.ref.new_head)

    def read_lanes(self, lanes: Sequence[int | None], shapes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Reads the network's variables."""
        return [self.pretrained.read(without_views(shapes), self.ref.new_head) for _ in lanes]

    def fingerprint(self) -> str:
        """Returns a digest of the weights, from the digests of their files."""
        return self.pretrained.fingerprint()


Place = CheckpointRef | PretrainedRef
"""The place of the weights of one network."""


def find(ref: WeightsRef, network: str, workdir: pathlib.Path, lane: int | None = None) -> Place:
    """Returns the place of the weights that a reference means for the network called `network`.

    Args:
        ref: the reference.
        network: the network that starts from it.
        workdir: the folder of the run, for its own stages.
        lane: the lane to take if there are lanes and the reference names none.

    Raises:
        UserError: if there are none, or they cannot be read.
    """
    if not ref.format or ref.folder is None:
        return find_checkpoint(ref, network, workdir, lane)
    try:
        pretrained = open_weights(ref.format, ref.folder, str(ref)).taking(ref.blocks)
        return PretrainedRef(ref, network, pretrained.as_part(ref.part, TAIL) if ref.part else pretrained)
    except UserError as error:
        raise UserError(f"networks.{network}.weights: {error}") from error


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
    step = ref.step
    if step is None:
        chosen = lane if ref.lane is None else ref.lane
        step = _selected_step(folder, steps, ref.network or network, chosen)
    if step not in steps:
        raise UserError(f"{path}: no step {step} in {root}; there are {steps}")
    names = _networks_in(root, step)
    name = ref.network or (network if network in names or len(names) != 1 else names[0])
    if name not in names:
        raise unknown(f"network in {root / str(step)}", name, names)
    checkpoint_ref = CheckpointRef(root, step, name, ref=ref)
    return dataclasses.replace(
        checkpoint_ref, lane=lanes.choose_lane(path, checkpoint_ref.metadata, ref.lane, default=lane)
    )


def _selected_step(folder: pathlib.Path, steps: Sequence[int], network: str, lane: int | None) -> int | None:
    """Returns the step that a finished stage selected for a network (of a lane), or the last of an unfinished one."""
    if not (folder / DONE).is_file():
        return max(steps, default=None)
    return lanes.selected_step(files.read_json(folder / DONE, dict, fix=RUN_AGAIN), network, lane)


def _networks_in(folder: pathlib.Path, step: int) -> list[str]:
    metadata = CheckpointRef(folder, step, "").metadata
    if "networks" not in metadata:
        raise UserError(
            f"the checkpoint of step {step} in {folder} has no list of networks; it was probably not written by"
            " jaxdistill"
        )
    return sorted(metadata["networks"])


def read(ref: Place, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a network's variables, on each process the parts of its devices."""
    return read_all([ref], shapes)[0]


def read_all(refs: Sequence[Place], shapes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reads the variables of a network from several places; lanes of one checkpoint are read at once.

    Arrays of a head that a reference leaves out are missing.

    Args:
        refs: from `find`.
        shapes: `{collection: tree}` of `ShapeDtypeStruct`s with shardings.

    Raises:
        UserError: if the checkpoint is damaged, of a network of another shape, or has NaN in an array.
    """
    variables: dict[Place, dict[str, Any]] = {}
    for whole in {ref.without_lane(): None for ref in refs}:
        group = [ref for ref in refs if ref.without_lane() == whole]
        trees = group[0].read_lanes([ref.lane for ref in group], shapes)
        variables |= dict(zip(group, trees, strict=True))
    return [variables[ref] for ref in refs]


def _without_missing(shapes: Any, names: Collection[str], path: str = "") -> Any:
    """Returns a tree of shapes without the arrays that are not among `names`."""
    if not isinstance(shapes, Mapping):
        return shapes
    paths = {key: f"{path}.{key}" if path else key for key in shapes}
    present = {key: paths[key] for key in shapes if any(f"{name}.".startswith(f"{paths[key]}.") for name in names)}
    return {key: _without_missing(shapes[key], names, place) for key, place in present.items()}


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
    flat = checkpoint.flatten_structs(shapes)
    structs = {stored: flat[name] for name, stored in names.items()}
    if ref.lane is None:
        return structs
    metadata = ref.metadata
    return {name: lanes.stack_struct(struct, metadata) for name, struct in structs.items()}


def _stored_names(ref: CheckpointRef, shapes: Mapping[str, Any]) -> dict[str, str]:
    """Returns the name in the checkpoint of each variable that it has: an average keeps params as variables."""
    arrays = checkpoint.metadata(ref.folder, ref.step)["arrays"]
    is_average = any(name.startswith(f"variables.{ref.network}.params.") for name in arrays)

    def stored_name(name: str) -> str:
        collection, _, rest = name.partition(".")
        if collection == "params" and not is_average:
            return f"params.{ref.network}.{rest}"
        return f"variables.{ref.network}.{name}"

    names = _names_of_views(checkpoint.flatten_structs(shapes), ref.views)
    selected = {name: ref.ref.stored_name(name) for name in names}
    return {name: stored_name(stored) for name, stored in selected.items() if stored}


def _names_of_views(names: Iterable[str], views: Collection[str]) -> list[str]:
    """Returns the names of the module's arrays, and those of these views; a view without any starts from the others."""
    return [name for name in names if view_of(name) in ("", *views)]


def check_same_shapes(
    path: str, variables: Mapping[str, Any], expected: Mapping[str, Any], ref: WeightsRef | None = None
) -> None:
    """Raises `UserError` with lines of + and - if two networks' variables differ in name or shape.

    Args:
        path: the first network, for messages.
        variables: its own.
        expected: those of the second.
        ref: the reference by which the second starts from the first.
    """
    ref = ref or WeightsRef()
    actual, shapes = (
        {name: list(leaf.shape) for name, leaf in checkpoint.flatten_structs(tree).items()}
        for tree in (variables, expected)
    )
    shapes = {name: shapes[name] for name in _names_of_views(shapes, {view_of(name) for name in actual})}
    sources = {name: ref.stored_name(name) for name in shapes}
    expected_shapes = {sources[name].replace(".", "/"): shape for name, shape in shapes.items() if sources[name]}
    used = {*sources.values()}
    actual_shapes = {
        name.replace(".", "/"): shape for name, shape in actual.items() if name in used or not ref.leaves_out(name)
    }
    lines = files.diff_lines(expected_shapes, actual_shapes, limit=6)
    if lines:
        raise UserError(f"{path} is another network; expected (-) and there (+):\n  " + "\n  ".join(lines))
