"""One lane of a run taken out of it: an ordinary workdir, which the ordinary command goes on with.

What a swept stage has (checkpoints, lines of `metrics.jsonl`) becomes the lane's own; what other stages have is copied;
what was evaluated in lanes, and cached of them, is made again. Networks that read another lane read it where it is.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Collection, Mapping
from typing import Any

import jax

from jaxdistill.build import weights
from jaxdistill.build.stage import Stage
from jaxdistill.config import load as configs
from jaxdistill.config import references, sweep
from jaxdistill.config.references import WeightsRef
from jaxdistill.config.schema import StageSettings
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run
from jaxdistill.runtime import files
from jaxdistill.stages import train
from jaxdistill.stages.lanes import runs_of
from jaxdistill.train import checkpoint, mesh
from jaxdistill.train.metrics_log import CLOCKED, MetricsWriter

RESULTS = ("results.json", "evaluation.json", "predictions.npz")


def single(stages: Mapping[str, StageSettings], lane: int, old: pathlib.Path) -> dict[str, StageSettings]:
    """Returns the settings of one lane: its values in the place of every sweep.

    Args:
        stages: the settings of every stage.
        lane: the number of the lane.
        old: the workdir of the lanes, for the networks that read another of them.

    Raises:
        UserError: if nothing is swept, or stages have different numbers of lanes, or fewer.
    """
    swept = {name: lanes for name, settings in stages.items() if (lanes := sweep.lanes(name, settings))}
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
            ref = _reference_in_lane(refs["weights"], network, lane, swept, old)
            networks[network] = dataclasses.replace(networks[network], weights=str(ref))
    return dataclasses.replace(settings, networks=networks, sweep={})


def _reference_in_lane(
    ref: WeightsRef, network: str, lane: int, swept: Collection[str], old: pathlib.Path
) -> WeightsRef:
    """Returns the reference in the run of one lane: weights of that lane are the stage's own, of others in `old`."""
    if ref.folder is not None:
        if ref.lane is None and weights.find_checkpoint(ref, network, old, lane=0).lanes:
            return dataclasses.replace(ref, lane=lane)
        return ref
    if ref.stage not in swept or ref.lane is None:
        return ref
    if ref.lane == lane:
        return dataclasses.replace(ref, lane=None)
    return WeightsRef(folder=old / ref.stage, network=ref.network, lane=ref.lane)


def split(
    config: Mapping[str, StageSettings],
    own: Mapping[str, StageSettings],
    lane: int,
    old: pathlib.Path,
    workdir: pathlib.Path,
) -> None:
    """Makes `workdir` that of one lane of the run in `old`; nothing where it was made before.

    Args:
        config: of the run in `old`.
        own: the lane's, by `single`.

    Raises:
        UserError: where `old` is no run of that config, or the workdir holds something else.
    """
    if jax.process_count() > 1:
        raise UserError("--lane is for one process; split the lane off first, then go on in several")
    if (workdir / "config.json").exists():
        return  # whether it is this lane's is what every run asks of its workdir
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"{workdir} is there already, and is no run; name another with --workdir")
    if not (old / "config.json").is_file():
        raise UserError(f"--from={old} is no workdir of a run: there is no config.json in it")
    lines = configs.differences(files.read_json(old / "config.json", dict), configs.to_json(config))
    if lines:
        raise UserError(f"--from={old} is a run of another config. What differs:\n  " + "\n  ".join(lines))
    there, made = (run.prepare(one, old) for one in (config, own))
    part = workdir.with_name(f".{workdir.name}.lane-{lane}.part")
    if part.exists():  # of a command that was killed
        shutil.rmtree(part)
    part.mkdir(parents=True)
    files.write_json(part / "config.json", configs.to_json(own))
    shutil.copy2(old / "environment.json", part / "environment.json")
    _copy_lines(there, old, part)
    for name, stage in there.items():
        if not stage.lanes:
            _copy(stage, there, old, part)
        elif stage.kind.trains:
            _take_out(made[name], lane, old, part)
    part.rename(workdir)


def _copy(stage: Stage, stages: Mapping[str, Stage], old: pathlib.Path, part: pathlib.Path) -> None:
    read = references.stages_read(stage.settings.networks)
    if stage.kind.stores_outputs and any(stages[source].lanes for source in read):
        return  # its header has the digests of the weights of all lanes
    if (old / stage.name).is_dir():
        shutil.copytree(old / stage.name, part / stage.name)
    if (old / "tensorboard" / stage.name).is_dir():
        shutil.copytree(old / "tensorboard" / stage.name, part / "tensorboard" / stage.name)
    for name in RESULTS if stage.kind.writes_results else ():
        if (old / name).is_file():
            shutil.copy2(old / name, part / name)


def _lines(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` that are whole."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _copy_lines(stages: Mapping[str, Stage], old: pathlib.Path, part: pathlib.Path) -> None:
    kept = [line for line in _lines(old) if line["stage"] in stages and not stages[line["stage"]].lanes]
    (part / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))


def _own(line: Mapping[str, Any], lane: int) -> dict[str, Any]:
    """What a line of all lanes says of one."""
    start = f"{lane}/"
    own = {key.removeprefix(start): value for key, value in line.items() if key.startswith(start)}
    shared = {key: value for key, value in line.items() if f"{start}{key}" not in line and not key[0].isdigit()}
    return {key: value for key, value in (shared | own).items() if key not in CLOCKED}  # those were of all lanes


def _take_out(made: Stage, lane: int, old: pathlib.Path, part: pathlib.Path) -> None:
    """Writes what a swept stage has of one lane."""
    told = [_own(line, lane) for line in _lines(old) if line["stage"] == made.name]
    for line in told:
        if "rate" in line:  # of the lanes, their mean
            line["rate"] = float(made.learning_rate(line["step"] - 1))
    log = MetricsWriter(part, made.name, 0)
    for line in told:
        log.write(line["step"], {key: value for key, value in line.items() if key not in ("stage", "step")})
    log.close()
    folder, whole = old / made.name / checkpoint.FOLDER, mesh.replicated(made.mesh)
    with train.checkpoints(runs_of(made), part) as kept:
        for step in checkpoint.steps_in(folder):
            meta = checkpoint.metadata(folder, step)
            arrays = {name: (tuple(shape), dtype) for name, (shape, dtype) in meta["arrays"].items()}
            wanted = {name: jax.ShapeDtypeStruct(*about, sharding=whole) for name, about in arrays.items()}
            own = {name: x[lane] for name, x in checkpoint.read(folder, step, wanted).items()}
            found = {k: v for line in told if line["step"] == step and "split" in line for k, v in line.items()}
            numbers = {key: value for key, value in found.items() if isinstance(value, float)}
            kept.save(step, own, numbers, meta["about"] | {"lanes": 0})
    done = old / made.name / weights.DONE
    if done.is_file():
        said = files.read_json(done, dict)
        steps = said.pop("steps", None)
        said.pop("seconds", None)
        reduced = {name: told for name, told in said.pop("reduced", {}).items() if "lane" not in told}
        said |= {"reduced": reduced} if reduced else {}
        files.write_json(part / made.name / weights.DONE, said | ({"step": steps[lane]} if steps else {}))
