"""References of a config to weights and caches: `stage:NAME#NETWORK@LANE`, a folder, or `FORMAT:PATH`."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping

from jaxdistill.config.formats import format_of
from jaxdistill.config.members import NetworkConfig
from jaxdistill.errors import UserError
from jaxdistill.runtime.files import CHECKPOINTS, input_path

STAGE = "stage:"
NEW_HEAD = "new"
"""The value of `head` for a head with fresh weights."""

HEAD = re.compile(r"params\.(head(_\w+)?|distillation_head)\.")
TAIL = re.compile(r"(params|batch_stats)\.(head(_\w+)?|distillation_head|final_conv|final_norm|hidden\d|pooler)\.")
"""Names of arrays behind the last map of a classifier, which its encoder may not have."""

BLOCK = re.compile(r"(\w+\.block)(\d+)(\..*)")
"""Names of arrays of heads, and of blocks."""

CACHE_KEYS = ("cache", "teacher")
"""Keys of a cached network that hold a reference, besides `weights`."""


@dataclasses.dataclass(frozen=True)
class WeightsRef:
    """The weights of a network, or a cache of its outputs, that another stage or run has made.

    `"stage:distil"` is that stage of this run, and in it the network of the same name; `"stage:distil#student"` names
    the network; `"stage:parts#teacher@2"` is that of lane 2 of a stage that trained several, and without the number
    each lane's, if the stage that reads it has as many. `"runs/other/teacher"` is the folder of a finished stage, and
    `"runs/other/teacher/checkpoints/1200"` one checkpoint in it. `"hf:PATH"` is in the format of another library.

    Attributes:
        stage: the name of a stage of this run; "" for a folder.
        folder: the folder of a stage of another run; `None` for a stage of this run.
        step: the step of a checkpoint in the folder; `None` for the one that the stage selected.
        network: the name of the network there; "" if it is the same, or the only one.
        lane: the number of a lane; `None` for all, or none.
        format: the name of another library's format, whose weights are at `folder`; "" for a checkpoint.
        new_head: whether the head is left out, for one with fresh weights.
        blocks: the blocks there that the network's blocks start from, in order; () for all.
        part: the part of the network that the weights are of, such as "encoder"; "" for the whole. All else is fresh,
            and what a classifier has behind its maps is left out.
    """

    stage: str = ""
    folder: pathlib.Path | None = None
    step: int | None = None
    network: str = ""
    lane: int | None = None
    format: str = ""
    new_head: bool = False
    blocks: tuple[int, ...] = ()
    part: str = ""

    def __str__(self) -> str:
        if self.format:
            return f"{self.format}:{self.folder}"
        step = "" if self.step is None else f"/{CHECKPOINTS}/{self.step}"
        lane_of_folder = self.folder is not None and self.lane is not None
        network = f"#{self.network}" if self.network or lane_of_folder else ""
        lane = "" if self.lane is None else f"@{self.lane}"
        return f"{STAGE + self.stage if self.stage else self.folder}{step}{network}{lane}"

    def stored_name(self, name: str) -> str:
        """Returns the name there of an array of the network, such as `params.block1.norm1.scale`; "" for none."""
        if self.part:
            collection, _, rest = name.partition(".")
            if not rest.startswith(f"{self.part}."):
                return ""
            name = f"{collection}.{rest.removeprefix(self.part + '.')}"
        if self.new_head and HEAD.match(name):
            return ""
        match = BLOCK.match(name)
        if match is None or not self.blocks:
            return name
        place = int(match[2])
        return f"{match[1]}{self.blocks[place]}{match[3]}" if place < len(self.blocks) else name

    def leaves_out(self, stored: str) -> bool:
        """Whether the network has no array for one that is there, because of its new head, its blocks or its part."""
        if self.part and TAIL.match(stored):
            return True
        match = BLOCK.match(stored)
        is_other_block = bool(self.blocks) and match is not None and int(match[2]) not in self.blocks
        return is_other_block or (self.new_head and HEAD.match(stored) is not None)


def parse(text: str, key: str = "weights") -> WeightsRef:
    """Parses a reference as a config has it; `key` is the key that holds it, for messages."""
    if format_of(text):
        name, _, path = text.partition(":")
        if not path:
            raise UserError(f"{key} must name a file or a folder, got {text!r}. Write '{name}:PATH'")
        return WeightsRef(folder=input_path(key, path), format=name)
    place, _, network = text.partition("#")
    lane = None
    # A folder may be called anything, so that only a network or a stage is followed by a lane.
    named = network or (place if place.startswith(STAGE) else "")
    if match := re.fullmatch(r"(.*)@(\d+)", named):
        lane = int(match[2])
        place, network = (place, match[1]) if network else (match[1], "")
    if place.startswith(STAGE):
        if place == STAGE:
            raise UserError(f"{key} must name a stage, got {text!r}. Write 'stage:NAME'")
        return WeightsRef(stage=place.removeprefix(STAGE), network=network, lane=lane)
    scheme, _, path = place.rpartition(f"/{CHECKPOINTS}/")
    if "://" in scheme and path.rstrip("/").isdigit():  # one checkpoint in a store; its stage has more that is read
        return WeightsRef(folder=input_path(key, scheme), step=int(path.rstrip("/")), network=network, lane=lane)
    folder = input_path(key, place)
    step = None
    if folder.parent.name == CHECKPOINTS and folder.name.isdigit():
        folder, step = folder.parents[1], int(folder.name)
    return WeightsRef(folder=folder, step=step, network=network, lane=lane)


def parse_networks(networks: Mapping[str, NetworkConfig]) -> dict[str, dict[str, WeightsRef]]:
    """Returns the references of the networks of a stage: `{network: {key: reference}}`, without those that are ""."""
    return {name: _parse_network(f"networks.{name}", config) for name, config in networks.items()}


def _parse_network(path: str, config: NetworkConfig) -> dict[str, WeightsRef]:
    keys = CACHE_KEYS if config.source == "cached" else ()
    texts = {"weights": config.weights} | {key: config.options[key] for key in keys}
    refs = {key: parse(text, f"{path}.{key}") for key, text in texts.items() if text}
    cache = refs.get("cache", WeightsRef())
    if cache.format:
        raise UserError(
            f"{path}.cache must be the folder of a cache or 'stage:NAME', got {str(cache)!r}. Make one first"
        )
    if "weights" in refs:
        part, blocks = config.options.get("part", ""), tuple(config.options.get("blocks", ()))
        new_head = config.options.get("head") == NEW_HEAD or bool(part)
        refs["weights"] = dataclasses.replace(refs["weights"], new_head=new_head, blocks=blocks, part=part)
    return refs


def stages_read(networks: Mapping[str, NetworkConfig]) -> list[str]:
    """Returns the stages of this run that the networks of a stage read."""
    parsed = parse_networks(networks).values()
    return [ref.stage for refs in parsed for ref in refs.values() if ref.stage]
