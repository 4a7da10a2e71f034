"""Extraction of one lane of a run: an ordinary workdir, which the ordinary command goes on with.

Checkpoints and lines of `metrics.jsonl` of a swept stage become the lane's own; files of other stages are copied;
evaluations of lanes, and caches by them, are made again. Networks that read another lane read it in the old workdir.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Collection, Mapping
from typing import Any

import jax

from jaxdistill.build import weights
from jaxdistill.build.runs import Single
from jaxdistill.build.stage import Stage
from jaxdistill.config import load as configs
from jaxdistill.config import references
from jaxdistill.config.references import WeightsRef
from jaxdistill.config.schema import StageSettings
from jaxdistill.config.sweep import SweepConfig, lane_settings
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run
from jaxdistill.runtime import files
from jaxdistill.stages import train
from jaxdistill.train import checkpoint, mesh, units
from jaxdistill.train.metrics_log import CLOCKED, MetricsWriter

RESULTS = ("results.json", "evaluation.json", "predictions.npz")


def settings_of_lane(stages: Mapping[str, StageSettings], lane: int, old: pathlib.Path) -> dict[str, StageSettings]:
    """Returns the settings of one lane: its values in the place of every sweep.

    Args:
        stages: the settings of every stage.
        lane: the number of the lane.
        old: the workdir of the lanes, for the networks that read another of them.

    Raises:
        UserError: if nothing is swept, or stages have different numbers of lanes, or fewer.
    """
    swept = {name: lanes for name, settings in stages.items() if (lanes := lane_settings(name, settings))}
    counts = {name: len(lanes) for name, lanes in swept.items()}
    if not swept:
        raise UserError(f"--lane={lane}: no stage of this config has a sweep, so there are no lanes")
    if len({*counts.values()}) > 1:
        raise UserError(
            f"--lane={lane}: the stages have {counts} lanes; those of different numbers do not belong together"
        )
    if not 0 <= lane < min(counts.values()):
        raise UserError(f"--lane={lane}: there is no such lane; there are 0 to {min(counts.values()) - 1}")
    return {
        name: _settings_in_lane(swept[name][lane] if name in swept else settings, lane, swept, old)
        for name, settings in stages.items()
    }


def _settings_in_lane(settings: StageSettings, lane: int, swept: Collection[str], old: pathlib.Path) -> StageSettings:
    networks = dict(settings.networks)
    for network, refs in references.parse_networks(settings.networks).items():
        if "weights" in refs:
            ref = _reference_in_lane(refs["weights"], network, lane=lane, swept=swept, old=old)
            networks[network] = dataclasses.replace(networks[network], weights=str(ref))
    return dataclasses.replace(settings, networks=networks, sweep=SweepConfig())


def _reference_in_lane(
    ref: WeightsRef, network: str, *, lane: int, swept: Collection[str], old: pathlib.Path
) -> WeightsRef:
    """Returns the reference in the run of one lane: weights of that lane are the stage's own, of others in `old`."""
    if ref.folder is not None:
        if ref.lane is None and weights.find(ref, network, old, lane=0).lane is not None:
            return dataclasses.replace(ref, lane=lane)
        return ref
    if ref.stage not in swept or ref.lane is None:
        return ref
    if ref.lane == lane:
        return dataclasses.replace(ref, lane=None)
    return WeightsRef(folder=old / ref.stage, network=ref.network, lane=ref.lane)


def make_workdir(
    stages: Mapping[str, StageSettings],
    of_lane: Mapping[str, StageSettings],
    *,
    lane: int,
    old: pathlib.Path,
    workdir: pathlib.Path,
) -> None:
    """Makes the workdir of one lane of the run in `old`; does nothing if it exists.

    Args:
        stages: the settings of the run in `old`.
        of_lane: those of the lane, by `settings_of_lane`.
        lane: the number of the lane.
        old: the workdir of the lanes.
        workdir: the new one.

    Raises:
        UserError: if `old` is no run of that config, or the workdir holds something else.
    """
    if jax.process_count() > 1:
        raise UserError("--lane is for one process; split the lane off first, then go on in several")
    if (workdir / "config.json").exists():
        return  # every run checks that its workdir is of its config
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"{workdir} is there already, and is no run; name another with --workdir")
    if not (old / "config.json").is_file():
        raise UserError(f"--from={old} is no workdir of a run: there is no config.json in it")
    lines = configs.differences(files.read_json(old / "config.json", dict), configs.to_json(stages))
    if lines:
        raise UserError(f"--from={old} is a run of another config. What differs:\n  " + "\n  ".join(lines))
    swept_stages, lane_stages = run.prepare(stages, old), run.prepare(of_lane, old)
    part = workdir.with_name(f".{workdir.name}.lane-{lane}.part")
    if part.exists():  # of a command that was killed
        shutil.rmtree(part)
    part.mkdir(parents=True)
    files.write_json(part / "config.json", configs.to_json(of_lane))
    shutil.copy2(old / "environment.json", part / "environment.json")
    _copy_log(swept_stages, old, part)
    for name, stage in swept_stages.items():
        if isinstance(stage.runs, Single):
            _copy_stage(stage, swept_stages, old, part)
        elif stage.kind.trains:
            _extract_stage(lane_stages[name], lane, old, part)
    part.rename(workdir)


def _copy_stage(stage: Stage, stages: Mapping[str, Stage], old: pathlib.Path, part: pathlib.Path) -> None:
    """Copies the files of a stage without lanes; a cache by the weights of lanes is made again."""
    sources = references.stages_read(stage.settings.networks)
    if stage.kind.stores_outputs and not all(isinstance(stages[source].runs, Single) for source in sources):
        return  # its header has the digests of the weights of all lanes
    for folder in (stage.name, f"tensorboard/{stage.name}"):
        if (old / folder).is_dir():
            shutil.copytree(old / folder, part / folder)
    for name in RESULTS if stage.kind.writes_results else ():
        if (old / name).is_file():
            shutil.copy2(old / name, part / name)


def _copy_log(stages: Mapping[str, Stage], old: pathlib.Path, part: pathlib.Path) -> None:
    """Copies the lines of stages without lanes."""
    without_lanes = [name for name, stage in stages.items() if isinstance(stage.runs, Single)]
    lines = [line for line in files.read_metrics(old / "metrics.jsonl") if line["stage"] in without_lanes]
    (part / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _line_of_lane(line: Mapping[str, Any], lane: int) -> dict[str, Any]:
    """Returns the line of one lane, without the clock's numbers, which are of all lanes."""
    start = f"{lane}/"
    numbers = {key.removeprefix(start): value for key, value in line.items() if key.startswith(start)}
    shared = {key: value for key, value in line.items() if f"{start}{key}" not in line and not key[0].isdigit()}
    return {key: value for key, value in (shared | numbers).items() if key not in CLOCKED}


def _extract_stage(stage: Stage, lane: int, old: pathlib.Path, part: pathlib.Path) -> None:
    """Writes the log, the checkpoints and the metadata of one lane of a swept stage.

    Args:
        stage: as the lane alone is built.
        lane: its number.
        old: the workdir of the lanes.
        part: the new workdir.
    """
    entries = files.read_metrics(old / "metrics.jsonl")
    lines = [_line_of_lane(line, lane) for line in entries if line["stage"] == stage.name]
    for line in lines:
        rates = units.learning_rates(stage.units) if "rate" in line else {}  # those of the lanes are their means
        line |= {name: float(rate(line["step"] - 1)) for name, rate in rates.items()}
    log = MetricsWriter(part, stage.name, 0)
    for line in lines:
        log.write(line["step"], {key: value for key, value in line.items() if key not in ("stage", "step")})
    log.close()
    evaluations = {line["step"]: line for line in lines if "split" in line}
    folder = old / stage.name / files.CHECKPOINTS
    with train.checkpoints(stage.runs, part) as checkpoints:
        for step in checkpoint.steps_in(folder):
            numbers = {key: x for key, x in evaluations.get(step, {}).items() if isinstance(x, float)}
            metadata = checkpoint.metadata(folder, step)["about"] | {"lanes": 0}
            checkpoints.save(step, _arrays_of_lane(stage, folder, step, lane), numbers, metadata)
    if (old / stage.name / weights.DONE).is_file():
        metadata = files.read_json(old / stage.name / weights.DONE, dict)
        files.write_json(part / stage.name / weights.DONE, _metadata_of_lane(metadata, lane))


def _arrays_of_lane(stage: Stage, folder: pathlib.Path, step: int, lane: int) -> dict[str, jax.Array]:
    replicated = mesh.replicated(stage.mesh)
    arrays = checkpoint.metadata(folder, step)["arrays"]
    structs = {
        name: jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=replicated) for name, (shape, dtype) in arrays.items()
    }
    return {name: x[lane] for name, x in checkpoint.read(folder, step, structs).items()}


def _metadata_of_lane(metadata: dict[str, Any], lane: int) -> dict[str, Any]:
    """Returns the contents of `done.json` for one lane; precision reports of lane 0 are left out."""
    steps = metadata.pop("steps", None)
    metadata.pop("seconds", None)
    reports = {name: row for name, row in metadata.pop("reduced", {}).items() if "lane" not in row}
    metadata |= {"reduced": reports} if reports else {}
    metadata |= {"step": steps[lane]} if steps else {}
    if "selected" in metadata:
        metadata["selected"] = {name: _metadata_of_lane(row, lane) for name, row in metadata["selected"].items()}
    return metadata
