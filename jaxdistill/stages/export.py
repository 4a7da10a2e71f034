"""Stages of kind "export": a finished network leaves in the format of another library.

    stages.export = dict(
        kind="export",
        networks=dict(distilled=dict(like="student", source="frozen", weights="stage:distil")),
        export=dict(network="distilled", format="huggingface"),
    )

The folder is `WORKDIR/STAGE/NETWORK`. The model card has the results of the run, if a stage before has measured them.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.config import registry
from jaxdistill.config.parse import option
from jaxdistill.config.schema import StageSettings
from jaxdistill.errors import UserError, check_names
from jaxdistill.export.exported import Exported
from jaxdistill.networks import Trained
from jaxdistill.runtime import files
from jaxdistill.stages import start_weights
from jaxdistill.stages.merge_data import jit_replicated


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    network: str = option("", "network that leaves; the only one if empty")
    format: str = option("huggingface", "format by name")


@dataclasses.dataclass(frozen=True)
class ExportSettings(StageSettings):
    """Settings of a stage that exports a network."""

    export: ExportConfig = option(ExportConfig, "the export")


class Export(Kind):
    """Writes a finished network in the format of another library."""

    settings = ExportSettings
    selects_examples = False

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return []

    def check(self, stage: Stage) -> None:
        super().check(stage)
        name = network_of(stage)
        source = stage.networks[name]
        if not isinstance(source, Trained):
            raise UserError(
                f"stage {stage.name!r}: export.network must be a network with a model of its own, got {name!r}, a"
                f" {type(source).__name__.lower()}. Name another"
            )
        if form := stage.settings.networks[name].options.get("quantize"):
            raise UserError(
                f"networks.{name}.quantize must be '' for an export, whose tensors are those that were trained, got"
                f" {form!r}. Leave it out"
            )
        registry.find("export_format", stage.settings.export.format, "export.format").check(_exported(stage, name, {}))

    def describe(self, stage: Stage) -> list[str]:
        return [f"  export: {network_of(stage)} as {stage.settings.export.format}"]

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        return super().is_done(stage, workdir) and (workdir / stage.name / network_of(stage)).is_dir()

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        name = network_of(stage)
        variables = jit_replicated(stage)(start_weights.read(stage.runs, workdir, [name])[name])
        folder = workdir / stage.name / name
        if jax.process_index() == 0:
            exported = _exported(stage, name, variables, workdir)
            for line in registry.find("export_format", stage.settings.export.format).write(folder, exported):
                log(f"stage {stage.name}: {line}")
        return {"folder": str(folder), "format": stage.settings.export.format}


def network_of(stage: Stage) -> str:
    """Returns the network that a stage exports.

    Raises:
        UserError: for a network that the stage does not have.
    """
    name = stage.settings.export.network
    if not name and len(stage.networks) == 1:
        return next(iter(stage.networks))
    check_names(f"stage {stage.name!r}: export.network", [name], stage.networks)
    return name


def _exported(stage: Stage, name: str, variables: Any, workdir: pathlib.Path | None = None) -> Exported:
    source, config = stage.networks[name], stage.settings.networks[name]
    assert isinstance(source, Trained)
    spec = stage.data.task.image_spec
    data = stage.settings.data
    results = workdir / "results.json" if workdir else None
    return Exported(
        name=name,
        model=config.options["model"],
        module=source.module,
        variables=variables,
        class_names=source.module_class_names,
        image_spec=source.preprocess.wanted if source.preprocess else spec,
        tokenizer=data.teacher_tokenizer if source.input == "teacher_tokens" else data.tokenizer,
        facts={
            "Data": data.name,
            "Model": config.options["model"],
            "Weights": config.weights or "",
            **_method(stage, config.weights or "", workdir),
            "Seed": str(stage.settings.seed),
        },
        results=tuple(files.read_json(results, list)) if results and results.exists() else (),
    )


def _method(stage: Stage, weights: str, workdir: pathlib.Path | None) -> dict[str, str]:
    """Returns the teacher's weights and the terms of the stage that trained a network, from the run's config."""
    path = workdir / "config.json" if workdir else None
    if path is None or not path.exists() or not weights.startswith("stage:"):
        return {}
    stages = files.read_json(path, dict)["stages"]
    trained = stages.get(weights.removeprefix("stage:").partition("#")[0].partition("@")[0], {})
    terms = [f"{term['method']} ({term.get('weight', 1)})" for term in trained.get("terms", {}).values()]
    teachers = {term.get("teacher", "") for term in trained.get("terms", {}).values()} - {""}
    origins = [f"{name} ({trained['networks'][name].get('weights', '')})" for name in sorted(teachers)]
    return {"Teacher": ", ".join(origins) or "none", "Terms": ", ".join(terms)}
