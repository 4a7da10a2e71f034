"""Stages in order, each in its own folder, each skipped when it is done.

Every stage is built and checked before the first one starts.
"""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxdistill.build import caches, resolve, weights
from jaxdistill.build.stage import Stage
from jaxdistill.config import load as configs
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import ImageSpec
from jaxdistill.runtime import files
from jaxdistill.runtime.compilation_cache import compilation_log
from jaxdistill.runtime.workdir import claim_workdir
from jaxdistill.train import partitioning


def prepare(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Stage]:
    """Builds every stage and checks that each finds the weights that it starts from.

    Raises:
        UserError: for anything that would stop the run later.
    """
    stages: dict[str, Stage] = {}
    for name, settings in configs.stages(config).items():
        found = caches.find_caches(name, settings, stages, workdir)
        started = _started(stages, settings, workdir)
        stages[name] = resolve.stage(name, settings, _made_for(stages, settings, workdir), found, started=started)
    for stage in stages.values():
        for name, spec in stage.settings.networks.items():
            if name in _networks_without_start(stage) and not spec.get("weights"):
                raise UserError(f"stage {stage.name!r} does not train network {name!r}; set its weights, 'stage:NAME'")
            if spec.get("weights"):
                _check_start(stages, stage, name, spec, workdir)
            if name in stage.caches and spec.get("teacher") and not spec["teacher"].startswith("stage:"):
                weights.locate(spec["teacher"], name, workdir)
    _check_sharding(stages)
    writing = [name for name, stage in stages.items() if stage.kind.writes_results]
    if len(writing) > 1:
        raise UserError(f"stages {writing} all write the results of the run; keep one of kind='evaluate'")
    return stages


def _made_for(stages: Mapping[str, Stage], settings: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, ImageSpec]:
    """The images that the networks of a stage were trained on, of those that start from weights."""
    found = {}
    for name, spec in settings["networks"].items():
        start = spec.get("weights") or ""
        if not isinstance(start, str) or not start:
            continue
        if start.startswith("stage:"):
            source, wanted = _wanted(stages, start, name)
            look = stages[source].looks.get(wanted)
        else:
            look = weights.look(weights.locate(start, name, workdir, lane=0))
        found |= {name: look} if look else {}
    return found


def _started(stages: Mapping[str, Stage], settings: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, int]:
    """In how many lanes the weights come that networks of a stage start from, of those that name no lane."""
    found = {}
    for name, spec in settings["networks"].items():
        start = spec.get("weights") or ""
        if not isinstance(start, str) or not start or weights.parse(start)[2] is not None:
            continue
        if start.startswith("stage:"):
            found[name] = len(stages[_wanted(stages, start, name)[0]].lanes)
        else:
            found[name] = weights.lanes_in(weights.locate(start, name, workdir, lane=0))
    return found


def _wanted(stages: Mapping[str, Stage], start: str, name: str) -> tuple[str, str]:
    """The stage and the network in it that `stage:NAME#NETWORK` means for the network `name`."""
    place, wanted, _ = weights.parse(start)
    source = place.removeprefix("stage:")
    saved = stages[source].saved
    return source, wanted or (name if name in saved or len(saved) != 1 else saved[0])


def _networks_without_start(stage: Stage) -> list[str]:
    """Returns the networks with variables that the stage neither initialises nor gets from their source."""
    made = stage.kind.initialised(stage)
    return [name for name in stage.fresh if name not in made and not stage.networks[name].given]


def _check_sharding(stages: Mapping[str, Stage]) -> None:
    """A rule may place nothing in one stage, but must in another."""
    used, unused = set(), {}
    for stage in stages.values():
        _ = stage.placed  # raises for a dimension that does not divide
        used |= stage.placement.used
        unused |= {(who, what): (stage, spec) for who, what, spec in stage.placement.unused()}
    for (who, what), (stage, spec) in unused.items():
        if (who, what) not in used:
            own = stage.placement.cast[who].rules if who else stage.placement.rules
            raise partitioning.nowhere(who, what, spec, own, {"frozen": stage.shapes[1], **vars(stage.shapes[0])})


def _check_start(stages, stage, name, spec, workdir):
    shapes = stage.fresh.get(name)
    if shapes is None:
        raise UserError(f"stage {stage.name!r}: network {name!r} has no variables of its own; leave out its weights")
    if not spec["weights"].startswith("stage:"):
        lane = 0 if name in stage.paired else None
        weights.check(weights.locate(spec["weights"], name, workdir, lane), shapes)
        return
    source, wanted = _wanted(stages, spec["weights"], name)
    made = stages[source].made
    if wanted not in stages[source].saved:
        raise unknown(f"trained network in stage {source!r}", wanted, stages[source].saved)
    lane = 0 if name in stage.paired else weights.parse(spec["weights"])[2]
    there = len(stages[source].lanes)
    weights.check_lane(f"stage {stage.name!r}: {spec['weights']} for network {name!r}", lane, there)
    weights.check_same(f"stage {stage.name!r}: {spec['weights']} for network {name!r}", made[wanted], shapes)


def run(config: Mapping[str, Any], workdir: pathlib.Path, log: Callable[[str], None] = print, profile: int = 0) -> None:
    """Runs a pipeline to its end; stages that are done are skipped.

    Args:
        config: plain nested dicts, with overrides applied.
        workdir: the folder of the run; an interrupted run there is resumed.
        log: prints a line.
        profile: the number of early steps of every stage that trains to record (`train.profile`).

    Raises:
        UserError, TrainingFailed, Interrupted: see `errors`.
    """
    stages = prepare(config, workdir)
    claim_workdir(workdir, config, configs.differences)
    compilations = compilation_log()
    for name, stage in stages.items():
        if stage.kind.is_done(stage, workdir):
            log(f"stage {name}: done before")
            continue
        caches.verify(stage, workdir)
        compilations.use(stage.settings.compilation_cache, workdir)
        start, before = time.perf_counter(), compilations.total
        metadata = stage.kind.run(stage, workdir, log, profile)
        compiled = compilations.total - before
        if compiled.programs:
            log(f"stage {name}: {compiled.describe()}")
        if jax.process_index() == 0:
            metadata |= {"seconds": round(time.perf_counter() - start, 2)}
            files.write_json(workdir / name / weights.DONE, metadata)
        if jax.process_count() > 1:
            # The next stage reads files that one process wrote.
            multihost_utils.sync_global_devices(f"stage {name}")
