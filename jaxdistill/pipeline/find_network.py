"""Networks of finished runs: the stage that has one, built from the config of the run, and its weights."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill.build import weights
from jaxdistill.build.stage import Stage
from jaxdistill.build.weights import DONE
from jaxdistill.config import load as configs
from jaxdistill.config.references import WeightsRef, stages_read
from jaxdistill.config.schema import MeshConfig, StageSettings
from jaxdistill.core import Variables
from jaxdistill.errors import UserError, unknown
from jaxdistill.pipeline.run import build_stages
from jaxdistill.runtime import files
from jaxdistill.runtime.workdir import CONFIG, is_run
from jaxdistill.stages import start_weights
from jaxdistill.train import mesh


@dataclasses.dataclass(frozen=True)
class FinishedNetwork:
    """A network of a run that has its final weights.

    Attributes:
        stage: the stage that has the network, built.
        name: of the network.
        template: the network of the stage whose model it has; most often itself.
        variables: on the host.
    """

    stage: Stage
    name: str
    template: str
    variables: Variables


def find_network(workdir: pathlib.Path, text: str, step: int | None = None) -> FinishedNetwork:
    """Returns a network of a finished run.

    Args:
        workdir: of the run.
        text: the network's name in the last stage that has it, `STAGE#NETWORK`, or `STAGE#` for the only network that a
            stage has saved; any with `@LANE`.
        step: of the checkpoint; `None` for the one that the stage has selected.

    Raises:
        UserError: for a folder that is no run, an unknown name, and a stage that has not finished.
    """
    if not is_run(workdir):
        raise UserError(
            f"the workdir must be the folder of a run, got {str(workdir)!r} without a {CONFIG} of one. Name a run"
        )
    settings = configs.stages(files.read_json(workdir / CONFIG, dict))
    stage_name, separator, name = text.rpartition("#")
    name, _, number = name.partition("@")
    if number and not number.isdecimal():
        raise UserError(f"the network must end in @ and the number of a lane, got {text!r}. Write {name}@0")
    stage_name = stage_name if separator else _last_stage(settings, name)
    if stage_name not in settings:
        raise unknown("the stage", stage_name, settings, "a stage of the run")
    stage = build_stages(_needed(settings, stage_name), workdir)[stage_name]
    saved = stage.kind.saved(stage)
    options = [*dict.fromkeys([*stage.networks, *saved])]
    if not name and len(saved) != 1:
        raise UserError(f"stage {stage_name!r} must have saved one network, got {saved}. Name one of {options}")
    name = name or saved[0]
    if name not in options:
        raise unknown(f"the network of stage {stage_name!r}", name, options)
    template = stage.kind.template(stage, name) if name in saved else name
    ref = WeightsRef(network=name, lane=int(number) if number else None, step=step)
    variables = _read(stage, name, template, workdir, ref=ref)
    return FinishedNetwork(stage, name, template, variables)


def _last_stage(settings: Mapping[str, StageSettings], network: str) -> str:
    """Returns the last stage that has a network."""
    having = [name for name, stage in settings.items() if network in stage.networks]
    if not having:
        names = dict.fromkeys(name for stage in settings.values() for name in stage.networks)
        raise unknown("the network", network, names, "a network of the run")
    return having[-1]


def _needed(settings: Mapping[str, StageSettings], name: str) -> dict[str, StageSettings]:
    """Returns the settings of a stage and of those whose networks it reads, for the devices that there are."""
    names, queue = {name}, [name]
    while queue:
        read = [stage for stage in stages_read(settings[queue.pop()].networks) if stage not in names]
        names.update(read)
        queue += read
    return {
        key: dataclasses.replace(stage, mesh=MeshConfig(), sharding=())
        for key, stage in settings.items()
        if key in names
    }


def _read(stage: Stage, name: str, template: str, workdir: pathlib.Path, *, ref: WeightsRef) -> dict[str, Any]:
    """Returns the variables of a network: those that the stage has saved, or those that it starts from."""
    start = stage.references.get(name, {}).get("weights")
    is_saved = name in stage.kind.saved(stage)
    if not is_saved and start is None:
        return dict(jax.tree.map(np.asarray, start_weights.read(stage.runs, workdir, [name])[name]))
    if is_saved or start is None:
        start = dataclasses.replace(ref, stage=stage.name)
    elif ref.lane is not None:
        start = dataclasses.replace(start, lane=ref.lane)
    if start.stage and not (workdir / start.stage / DONE).is_file():
        raise UserError(
            f"stage {start.stage!r} of {workdir} must have finished for its network {name!r}, got a run that has not."
            " Repeat the command of the run"
        )
    place = weights.find(start, name, workdir)
    placed = mesh.replicated(mesh.make_mesh({}, jax.local_devices()[:1]))
    shapes = stage.shapes.variables[template]
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed), shapes)
    return jax.tree.map(np.asarray, weights.read(place, structs))
