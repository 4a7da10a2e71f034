"""Weights of one network out of a checkpoint: `stage:NAME`, the folder of a stage, or one checkpoint in it.

`weights="stage:distil"` takes the network of the same name from that stage of this run;
`"stage:distil#student"` names it; `"stage:parts#teacher@2"` is that of lane 2, where the stage trained several, and
without the number each lane's, where the stage that reads it has as many;
`"runs/other/teacher"` and `"runs/other/teacher/checkpoints/1200"` are folders. A stage that is done says in its
`done.json` which step it stands by.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxdistill import core
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import ImageSpec
from jaxdistill.runtime import files
from jaxdistill.train import checkpoint

DONE = "done.json"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a network's weights are: a `checkpoints` folder, a step in it, the network's name there, and its lane."""

    folder: pathlib.Path
    step: int
    network: str
    lane: int | None = None


def parse(weights: str) -> tuple[str, str, int | None]:
    """Takes `PLACE#NETWORK@LANE` apart; the network is "" and the lane `None` where they are not named."""
    path, _, rest = weights.partition("#")
    if not rest and not weights.startswith("stage:"):
        return path, "", None  # a folder, whatever it is called
    whole = re.fullmatch(r"(.*)@(\d+)", rest or path)
    if not whole:
        return path, rest, None
    return (path, whole[1], int(whole[2])) if rest else (whole[1], "", int(whole[2]))


def check_lane(what: str, lane: int | None, lanes: int) -> None:
    """Raises `UserError` where a lane is named and there are none, or the other way round."""
    if lanes and (lane is None or lane >= lanes):
        raise UserError(
            f"{what} was trained in {lanes} lanes; name one, from ...@0 to ...@{lanes - 1}, or sweep as many"
        )
    if not lanes and lane is not None:
        raise UserError(f"{what} was not trained in lanes; leave out @{lane}")


def locate(weights: str, network: str, workdir: pathlib.Path, lane: int | None = None) -> Place:
    """Finds the checkpoint that `weights` names, for the network called `network`.

    Args:
        lane: which is meant where there are lanes and `weights` names none of them.

    Raises:
        UserError: where there is none, or it holds several networks and none of that name.
    """
    path, wanted, named = parse(weights)
    folder = workdir / path.removeprefix("stage:") if path.startswith("stage:") else pathlib.Path(path).expanduser()
    if folder.parent.name == checkpoint.FOLDER and folder.name.isdigit():
        root, step = folder.parent, int(folder.name)
    else:
        root, step = folder / checkpoint.FOLDER, None
    if not root.is_dir():
        raise UserError(
            f"weights={weights!r} of network {network!r}: no checkpoints in {root}; name the folder of a finished"
            " stage (runs/NAME/teacher), a checkpoint in it (runs/NAME/teacher/checkpoints/1200), or stage:NAME"
        )
    steps = checkpoint.steps_in(root)
    given = lane if named is None else named
    if step is None:
        done = root.parent / DONE
        step = _stood_by(files.read_json(done, dict), given) if done.is_file() else max(steps, default=None)
    if step not in steps:
        raise UserError(f"weights={weights!r} of network {network!r}: no step {step} in {root}; there are {steps}")
    held = _networks_in(root, step)
    if not wanted:
        wanted = network if network in held or len(held) != 1 else held[0]
    if wanted not in held:
        raise unknown(f"network in {root / str(step)}", wanted, held)
    lanes = checkpoint.metadata(root, step).get("about", {}).get("lanes", 0)
    check_lane(f"weights={weights!r} of network {network!r}", given if lanes else named, lanes)
    return Place(root, step, wanted, given if lanes else None)


def _stood_by(done: Mapping[str, Any], lane: int | None) -> int | None:
    """The step that a finished stage stands by, or that lane of it."""
    each = done.get("steps", [])
    return each[lane] if lane is not None and lane < len(each) else done.get("step")


def lanes_in(place: Place) -> int:
    """In how many lanes the network was trained; 0 for none."""
    return checkpoint.metadata(place.folder, place.step).get("about", {}).get("lanes", 0)


def _networks_in(folder: pathlib.Path, step: int) -> list[str]:
    told = checkpoint.metadata(folder, step).get("about", {})
    if "networks" not in told:
        raise UserError(f"the checkpoint of step {step} in {folder} does not say which networks it holds; is it ours?")
    return sorted(told["networks"])


def look(place: Place) -> ImageSpec | None:
    """The images that a network was trained on, as its checkpoint tells; `None` where it does not."""
    told = checkpoint.metadata(place.folder, place.step).get("about", {}).get("looks", {}).get(place.network)
    return ImageSpec(*(tuple(told[key]) for key in ("shape", "mean", "std"))) if told else None


def check(place: Place, shapes: Mapping[str, Any]) -> None:
    """Raises `UserError` where a checkpoint is of a network of another shape; reads no array."""
    checkpoint.check(place.folder, place.step, _wanted(place, shapes, _names(place, shapes)), _own(place))


def read(place: Place, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a network's variables, on each process what its devices hold: `read_each` of one place."""
    return read_each([place], shapes)[0]


def read_each(places: Sequence[Place], shapes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reads the variables of a network from several places, of which lanes of one checkpoint are read at once.

    Args:
        places: from `locate`.
        shapes: `{collection: tree}` of `ShapeDtypeStruct`s with shardings.

    Raises:
        UserError: where the checkpoint is damaged, or of a network of another shape.
    """
    found: dict[Place, dict[str, Any]] = {}
    for each in {dataclasses.replace(place, lane=None): place for place in places}.values():
        names = _names(each, shapes)
        whole = checkpoint.read(each.folder, each.step, _wanted(each, shapes, names), _own(each))
        for place in places:
            if dataclasses.replace(place, lane=each.lane) == each:
                flat = whole if place.lane is None else {name: x[place.lane] for name, x in whole.items()}
                found[place] = checkpoint.unflatten({name: flat[stored] for name, stored in names.items()}, shapes)
    return [found[place] for place in places]


def _own(place: Place) -> tuple[str, str]:
    return f"params.{place.network}.", f"variables.{place.network}."


def _wanted(place: Place, shapes: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, jax.ShapeDtypeStruct]:
    wanted = {names[name]: struct for name, struct in checkpoint.flatten_structs(shapes).items()}
    if place.lane is None:
        return wanted
    lanes = checkpoint.metadata(place.folder, place.step)["about"]["lanes"]
    return {name: _in_lanes(struct, lanes) for name, struct in wanted.items()}


def _in_lanes(struct: jax.ShapeDtypeStruct, lanes: int) -> jax.ShapeDtypeStruct:
    placed = struct.sharding and NamedSharding(struct.sharding.mesh, PartitionSpec(None, *struct.sharding.spec))
    return jax.ShapeDtypeStruct((lanes, *struct.shape), struct.dtype, sharding=placed)


def _names(place: Place, shapes: Mapping[str, Any]) -> dict[str, str]:
    there = checkpoint.metadata(place.folder, place.step)["arrays"]
    followed = any(name.startswith(f"variables.{place.network}.params.") for name in there)  # an average of weights

    def stored(name: str) -> str:
        collection, _, rest = name.partition(".")
        if collection == "params" and not followed:
            return f"params.{place.network}.{rest}"
        return f"variables.{place.network}.{name}"

    return {name: stored(name) for name in checkpoint.flatten_structs(shapes)}


def check_same(what: str, made: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises `UserError` where two networks' variables differ in name or shape, told as + and -."""
    there, expected = (
        {core.path_name(path): list(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (made, wanted)
    )
    lines = files.diff_lines(expected, there, limit=6)
    if lines:
        raise UserError(f"{what} is another network; expected (-) and there (+):\n  " + "\n  ".join(lines))


def fingerprint(place: Place) -> str:
    """A digest of a network's weights, whatever it is called, from those that its checkpoint tells; reads no array."""
    told = checkpoint.metadata(place.folder, place.step)
    starts = _own(place)
    own = {
        name.removeprefix(start).replace("params.", "", 1) if start == starts[1] else name.removeprefix(start): digest
        for name, digest in told["digests"].items()
        for start in starts
        if name.startswith(start)
    }
    more = {key: str(x) for key, x in dataclasses.asdict(place).items() if key not in ("folder", "step", "network")}
    more["look"] = str(look(place))
    return files.json_digest([own, more])
