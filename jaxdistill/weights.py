"""Weights of one network out of a checkpoint: `stage:NAME`, the folder of a stage, or one checkpoint in it.

`weights="stage:distil"` takes the network of the same name from that stage of this run;
`"stage:distil#student"` names it; `"runs/other/teacher"` and `"runs/other/teacher/checkpoints/1200"` are
folders. A stage that is done says in its `done.json` which step it stands by.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxdistill import core
from jaxdistill.environment import read_json
from jaxdistill.errors import UserError, unknown
from jaxdistill.train import checkpoint

DONE = "done.json"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a network's weights are: a `checkpoints` folder, a step in it, and the network's name there."""

    folder: pathlib.Path
    step: int
    network: str


def locate(weights: str, network: str, workdir: pathlib.Path) -> Place:
    """Finds the checkpoint that `weights` names, for the network called `network`.

    Raises:
        UserError: where there is none, or it holds several networks and none of that name.
    """
    path, _, wanted = weights.partition("#")
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
    if step is None:
        done = root.parent / DONE
        step = read_json(done, {}).get("step") if done.is_file() else max(steps, default=None)
    if step not in steps:
        raise UserError(f"weights={weights!r} of network {network!r}: no step {step} in {root}; there are {steps}")
    held = _networks_in(root, step)
    if not wanted:
        wanted = network if network in held or len(held) != 1 else held[0]
    if wanted not in held:
        raise unknown(f"network in {root / str(step)}", wanted, held)
    return Place(root, step, wanted)


def _networks_in(folder: pathlib.Path, step: int) -> list[str]:
    told = checkpoint.about(folder, step).get("about", {})
    if "networks" not in told:
        raise UserError(f"the checkpoint of step {step} in {folder} does not say which networks it holds; is it ours?")
    return sorted(told["networks"])


def read(place: Place, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a network's variables.

    Args:
        place: from `locate`.
        shapes: `{collection: tree}` of `ShapeDtypeStruct`s with shardings.

    Raises:
        UserError: where the checkpoint is damaged, or of a network of another shape.
    """
    names = _names(place, shapes)
    wanted = {names[name]: struct for name, struct in checkpoint.flatten_structs(shapes).items()}
    own = (f"params.{place.network}.", f"variables.{place.network}.")
    flat = checkpoint.read(place.folder, place.step, wanted, prefixes=own)
    return checkpoint.unflatten({name: flat[stored] for name, stored in names.items()}, shapes)


def _names(place: Place, shapes: Mapping[str, Any]) -> dict[str, str]:
    there = checkpoint.about(place.folder, place.step)["arrays"]
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
    lines = checkpoint.mismatch(there, expected)
    if lines:
        raise UserError(f"{what} is another network; expected (-) and there (+):\n  " + "\n  ".join(lines))
