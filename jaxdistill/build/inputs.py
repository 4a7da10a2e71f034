"""Fingerprints of what a run reads: its data and the weights that it starts from, which must not change under it."""

import dataclasses
import pathlib
from collections.abc import Mapping

import jax

from jaxdistill.build import weights
from jaxdistill.build.stage import Stage
from jaxdistill.config.schema import DataConfig, MemberConfig
from jaxdistill.data.build import fingerprint
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.output_cache import HEADER
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

FILE = "inputs.json"
"""The file of a workdir with the fingerprint of each input, by its description."""

RECORD_AGAIN = "Remove it: the next launch records the inputs again, as they are then."


def verify(stage: Stage, workdir: pathlib.Path, is_done: bool = False) -> None:
    """Records the fingerprints of what a stage reads, or compares them with those of an earlier launch or stage.

    Args:
        stage: a stage that is about to run, or is done.
        workdir: the folder of the run.
        is_done: of a stage that is done the data are compared, not the weights, which may have been removed since.

    Raises:
        UserError: for each input that has changed in place.
    """
    path = workdir / FILE
    recorded = files.read_json(path, dict, fix=RECORD_AGAIN) if path.exists() else {}
    present = _of_data(stage) | ({} if is_done else _of_weights(stage, workdir))
    changed = [name for name, value in present.items() if recorded.get(name, value) != value]
    if changed and _has_begun(workdir):
        raise UserError(
            f"stage {stage.name!r} must read what the run in {workdir} began with, got other contents of\n  "
            + "\n  ".join(changed)
            + "\nRestore them, or start a new run with another --workdir"
        )
    if jax.process_index() == 0 and not present.items() <= recorded.items():
        files.write_json(path, recorded | present)


def changed_weights(stage: Stage, workdir: pathlib.Path) -> list[str]:
    """Returns the networks of a finished stage whose weights in another format are no longer those it read."""
    path = workdir / FILE
    recorded = files.read_json(path, dict, fix=RECORD_AGAIN) if path.exists() else {}
    formats = {name: refs for name, refs in stage.references.items() if "weights" in refs and refs["weights"].format}
    present = _of_references(stage, workdir, formats)
    return [name for name, value in present.items() if recorded.get(name, value) != value]


def _has_begun(workdir: pathlib.Path) -> bool:
    """Whether a run has anything that was computed from its inputs."""
    patterns = (f"*/{files.CHECKPOINTS}/[0-9]*", f"*/{weights.DONE}", f"*/{HEADER}")
    return any(True for pattern in patterns for _ in workdir.glob(pattern))


def _of_data(stage: Stage) -> dict[str, str]:
    """Returns the fingerprint of each split that a stage reads, by its dataset and role."""
    data, evaluate = stage.settings.data, stage.settings.evaluate
    roles = {role for role, _, _ in stage.kind.inputs(stage)} | {stage.kind.split(stage)[0]}
    roles |= {evaluate.split} if stage.evaluation.needed else set()
    sections = {f"data, the {role} split of {data.path or data.name}": (data, role) for role in roles}
    for name, member in data.mix.items():
        if member.weight:
            sections[f"data.mix.{name}, the train split of {member.path or member.name}"] = (member, "train")
    opened = {title: (DatasetSettings.of(*_with_length(section)), role) for title, (section, role) in sections.items()}
    return {
        f"{title}, {files.json_digest(dataclasses.asdict(settings))[:8]}": fingerprint(settings, data.resident, role)
        for title, (settings, role) in sorted(opened.items())
        if settings.name != "noise" and role in stage.data.dataset.splits
    }


def _with_length(section: DataConfig | MemberConfig) -> tuple[DataConfig | MemberConfig, int]:
    return section, section.length if isinstance(section, DataConfig) else 0


def _of_weights(stage: Stage, workdir: pathlib.Path) -> dict[str, str]:
    """Returns the fingerprint of the weights that each network starts from, of all lanes together."""
    return _of_references(stage, workdir, stage.references)


def _of_references(stage: Stage, workdir: pathlib.Path, references: Mapping[str, Mapping]) -> dict[str, str]:
    fingerprints: dict[str, str] = {}
    for name, refs in references.items():
        if "weights" in refs:
            checkpoints = [weights.find(refs["weights"], name, workdir, lane) for lane in stage.runs.numbers_of(name)]
            key = f"weights of network {name!r} in stage {stage.name!r}, {refs['weights']}"
            fingerprints[key] = files.json_digest([checkpoint.fingerprint() for checkpoint in checkpoints])
    return fingerprints
