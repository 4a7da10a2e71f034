"""Kinds of stages: one class per file of `stages/`, found by the name of its file."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar

import jax

from jaxdistill.build import validate
from jaxdistill.build.stage import Stage
from jaxdistill.build.weights import DONE
from jaxdistill.config.schema import StageSettings
from jaxdistill.data.output_cache import Header


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that devices run, from shapes alone.

    Attributes:
        function: jitted.
        shapes: of its arguments, with their shardings.
        examples: those of one run.
    """

    function: Any
    shapes: tuple[Any, ...]
    examples: int

    def compile(self) -> jax.stages.Compiled:
        """Compiles it for the devices of the shardings."""
        return self.function.lower(*self.shapes).compile()


class Kind:
    """A kind of stage: its facts, checks and execution. A subclass overrides what differs.

    Attributes:
        settings: the dataclass of its settings, whose fields are the keys of such a stage.
        trains: whether it trains networks by terms.
        stores_outputs: whether it writes the outputs of a network or classifier to a cache.
        needs_networks: whether it must have networks.
        selects_examples: whether `data` restricts its training split (part, classes, subset).
        inherits_lanes: whether it has the lanes of the networks that it reads, and none of its own.
        writes_results: whether it writes results of the run.
        images_only: whether it works on images alone.
    """

    settings: ClassVar[type[StageSettings]] = StageSettings
    trains = False
    stores_outputs = False
    needs_networks = True
    selects_examples = True
    inherits_lanes = False
    writes_results = False
    images_only = False

    def saved(self, stage: Stage) -> list[str]:
        """Returns the networks whose variables its checkpoints hold."""
        return []

    def template(self, stage: Stage, name: str) -> str:
        """Returns the network of the stage that has the shapes of the saved network `name`."""
        return name

    def initialised(self, stage: Stage) -> list[str]:
        """Returns the networks whose variables it makes, so that they need no weights."""
        return []

    def measured(self, stage: Stage) -> list[str]:
        """Returns the networks that it evaluates."""
        return []

    def pairs(self, stage: Stage, reference: str) -> list[tuple[str, str]]:
        """Returns the pairs `(network, reference)` that it compares.

        Args:
            stage: the stage.
            reference: the network that others are compared with; "" for none.
        """
        return []

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        """Returns what it runs networks on: the role of a split, whether it is augmented, and the networks."""
        return [("train", False, [*stage.networks])]

    def split(self, stage: Stage) -> tuple[str, int]:
        """Returns the role of the split that it works on, and its number of examples."""
        role = stage.settings.evaluate.split
        return role, len(stage.data.dataset.split(role))

    def check(self, stage: Stage) -> None:
        """Raises `UserError` for settings that contradict each other, the data or the devices."""
        validate.check(stage)

    def cache_header(self, stage: Stage) -> Header:
        """Returns the header of the cache that it writes, from shapes alone."""
        raise NotImplementedError(f"{type(self).__name__} writes no cache")

    def describe_data(self, stage: Stage) -> list[str]:
        """Returns lines for `--plan` about the reading of the data, the first of which continues a line."""
        return [""]

    def describe(self, stage: Stage) -> list[str]:
        """Returns lines for `--plan` beside those of the data and the networks."""
        return []

    def programs(self, stage: Stage) -> dict[str, Callable[[], Program]]:
        """Returns functions that make the programs that it runs on the devices for most of its time, by name."""
        return {}

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        """Whether a stage has finished, so that it is skipped."""
        return (workdir / stage.name / DONE).exists()

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        """Executes a stage, resuming it if its folder holds a part.

        Args:
            stage: the stage.
            workdir: the folder of the run; the stage writes to the subfolder of its name.
            log: prints a line.
            profile: number of early training steps to record.

        Returns:
            The metadata for `done.json`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement run")
