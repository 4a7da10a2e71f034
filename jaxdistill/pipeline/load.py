"""Finished networks of runs, stages, checkpoints and exports, for use in other programs."""

import functools
import os
import pathlib

import jax
import numpy as np

from jaxdistill.errors import UserError
from jaxdistill.export.loaded import LoadedNetwork, open_export
from jaxdistill.export.write import REPORT
from jaxdistill.pipeline.find_network import find_network
from jaxdistill.runtime import files
from jaxdistill.runtime.workdir import CONFIG, is_run
from jaxdistill.stages.predictors import make_predictor


def load(path: str | os.PathLike[str], network: str = "") -> LoadedNetwork:
    """Loads a finished network with its preprocessing.

        network = jaxdistill.load("runs/digits", "distilled")
        network(images)                 # uint8 [n, 8, 8, 1] -> logits, float32 [n, 10]
        network.probabilities(images)   # the same as probabilities

    A run is built again from its config, with the shapes and statistics of its data, which must be there. An export
    needs neither.

    Args:
        path: the workdir of a run, the folder of a stage in it, a checkpoint (`STAGE/checkpoints/1200`), or an export.
        network: the network's name in the last stage that has it, `STAGE#NETWORK`, or either with `@LANE`; the only
            one that a stage has saved if empty.

    Raises:
        UserError: for a path that is none of these, an unknown name, with the nearest one, and altered files.
    """
    place = files.input_path("path", os.fspath(path))
    if (place / REPORT).is_file() or (place.is_file() and (place.parent / REPORT).is_file()):
        if network:
            raise UserError(f"network must be '' for an export, which has one, got {network!r}. Leave it out")
        return open_export(place)
    run, stage, step = _split(place)
    if not stage and not network:
        raise UserError(f"network must be the name of a network of the run {place}, got ''. Or name a stage's folder")
    text = network if "#" in network or not stage else f"{stage}#{network}"
    finished = find_network(run, text, step)
    predictor = make_predictor(finished.stage, finished.template)
    function = functools.partial(jax.jit(predictor.logits), jax.device_put(finished.variables))
    return LoadedNetwork(finished.name, predictor.signature, lambda arrays: np.asarray(function(dict(arrays))))


def _split(place: pathlib.Path) -> tuple[pathlib.Path, str, int | None]:
    """Returns the workdir, the stage and the step that a folder is of; "" and `None` for the workdir itself."""
    if place.parent.name == files.CHECKPOINTS and place.name.isdigit() and place.is_dir():
        return place.parents[2], place.parents[1].name, int(place.name)
    if is_run(place):
        return place, "", None
    if place.is_dir() and is_run(place.parent):
        return place.parent, place.name, None
    raise UserError(
        f"path must be a run, a stage, a checkpoint or an export, got {str(place)!r} without {REPORT} or a {CONFIG} of"
        " a run. Name one, or copy the whole export"
    )
