"""Stages in order, each in its own folder, each skipped when it is done.

Every stage is built and checked before the first one starts.
"""

import pathlib
import time
from collections.abc import Callable, Mapping

import jax
from jax.experimental import multihost_utils

from jaxdistill import networks
from jaxdistill.build import caches, inputs, origins, resolve, weights
from jaxdistill.build.notes import notes, notes_of_run
from jaxdistill.build.stage import Stage
from jaxdistill.config import load as configs
from jaxdistill.config.schema import StageSettings
from jaxdistill.data.build import forget_datasets
from jaxdistill.runtime import files, garbage, mirror, preemption, xla_options
from jaxdistill.runtime.compilation_cache import compilation_log
from jaxdistill.runtime.onednn import setting as convolutions
from jaxdistill.runtime.preemption import StopSignal
from jaxdistill.runtime.workdir import check_links, claim_workdir
from jaxdistill.train import partitioning


def prepare(config: Mapping[str, StageSettings], workdir: pathlib.Path) -> dict[str, Stage]:
    """Builds every stage, of data as they are now, and checks that each finds the weights that it starts from.

    Raises:
        UserError: for anything that would stop the run later.
    """
    forget_datasets()
    stages = build_stages(config, workdir)
    _check_sharding(stages)
    garbage.resume()
    return stages


def build_stages(config: Mapping[str, StageSettings], workdir: pathlib.Path) -> dict[str, Stage]:
    """Builds stages, of which each reads only those before it, and checks that each finds its weights.

    Raises:
        UserError: for settings that contradict each other, the data or the weights.
    """
    stages: dict[str, Stage] = {}
    for name, settings in config.items():
        network_origins = origins.find_origins(settings, stages, workdir)
        network_caches = caches.find_caches(name, settings, stages, workdir)
        stages[name] = resolve.stage(name, settings, network_origins, network_caches)
        origins.check(stages[name], network_origins)
        caches.check_teachers(stages[name], workdir)
    return stages


def _check_sharding(stages: Mapping[str, Stage]) -> None:
    """Raises `UserError` for a sharding rule that matches no array of any stage."""
    all_shapes = [stage.shapes for stage in stages.values()]
    matched = {match for shapes in all_shapes for partition in shapes.partitions for match in partition.matched}
    for shapes in all_shapes:
        for network, rule, spec in shapes.partitioner.unmatched(matched):
            rules, tree = shapes.partitioner.all_rules()[network], {"frozen": shapes.frozen, **vars(shapes.state)}
            raise partitioning.unmatched_rule(network, rule, spec, rules=rules, tree=tree)


def run(
    config: Mapping[str, StageSettings],
    workdir: pathlib.Path,
    log: Callable[[str], None] = print,
    profile: int = 0,
    finish: Callable[[pathlib.Path], None] | None = None,
    stop: StopSignal | None = None,
) -> None:
    """Runs a pipeline to its end; stages that are done are skipped.

    Args:
        config: the settings of every stage.
        workdir: the folder of the run; an interrupted run there is resumed.
        log: prints a line.
        profile: the number of early steps of every stage that trains to record (`train.profile`).
        finish: writes what follows from the files of the run, such as a report; the first process calls it with the
            workdir, which this launch then still owns.
        stop: the flag of the run; one that signals set by default.

    Raises:
        UserError, TrainingFailed, Interrupted: see `errors`.
    """
    check_links(workdir, config)
    stages = prepare(config, workdir)
    with claim_workdir(workdir, configs.to_json(config), configs.differences):
        for line in notes_of_run(stages.values()):
            log(f"note: {line}")
        with stop or StopSignal() as stop:
            for name, stage in stages.items():
                stop.place = f"stage {name!r}"
                preemption.check()
                _run_stage(stage, workdir, log, profile)
            preemption.check()
        if finish is not None and jax.process_index() == 0:
            finish(workdir)


def _run_stage(stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> None:
    name, compilations = stage.name, compilation_log()
    is_done = stage.kind.is_done(stage, workdir)
    inputs.verify(stage, workdir, is_done)
    if is_done:
        log(f"stage {name}: done before")
        for line in inputs.changed_weights(stage, workdir):
            log(f"stage {name}: note: {line}: they have changed since, and the stage keeps what it has computed")
        return
    caches.verify(stage, workdir)
    for line in notes(stage, workdir):
        log(f"stage {name}: note: {line}")
    compilations.use(stage.settings.compilation_cache, workdir)
    xla_options.use(networks.tpu_options(stage.networks))
    if line := convolutions.use(stage.settings.convolutions):
        log(f"stage {name}: note: {line}")
    resumed = {"resumed": True} if (workdir / name).is_dir() else {}
    start, before = time.perf_counter(), compilations.total
    metadata = stage.kind.run(stage, workdir, log, profile)
    compiled = compilations.total - before
    if compiled.programs:
        log(f"stage {name}: {compiled.describe()}")
    if jax.process_index() == 0:
        metadata |= {"seconds": round(time.perf_counter() - start, 2)} | resumed
        files.write_json(workdir / name / weights.DONE, metadata)
    if jax.process_count() > 1:
        # The next stage reads files that one process wrote.
        multihost_utils.sync_global_devices(f"stage {name}")
        mirror.share(workdir)
