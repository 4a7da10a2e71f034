"""Stages of kind "export": a finished network leaves as files that other programs read.

    stages.export = dict(
        kind="export",
        networks=dict(distilled=dict(like="student", source="frozen", weights="stage:distil")),
        export=dict(network="distilled", format="stablehlo", bits=8),
    )

The folder is `WORKDIR/STAGE/NETWORK`. It is read again and compared with the network before it has its name. A model
card has the results of the run, if a stage before has measured them.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.config.parse import option
from jaxdistill.config.schema import StageSettings
from jaxdistill.data.tokenized_texts import TEACHER
from jaxdistill.errors import UserError, check_names
from jaxdistill.export.exported import Exported
from jaxdistill.export.signature import BYTES
from jaxdistill.export.weights import trained_integers
from jaxdistill.export.write import check_export, write_export
from jaxdistill.networks import Trained
from jaxdistill.runtime import files
from jaxdistill.stages import start_weights
from jaxdistill.stages.merge_data import jit_replicated
from jaxdistill.stages.predictors import make_predictor

EXAMPLES, LEAST_EXAMPLES = 512, 16
EXAMPLE_BYTES = 256 << 20
"""Examples on which an export is compared: the most, the least, and the bytes of their inputs and outputs between."""


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    network: str = option("", "network that leaves; the only one if empty")
    format: str = option("huggingface", "format by name")
    bits: int = option(0, "bits of kernels and embeddings in the file, 8 or 4; 0 for float32")


@dataclasses.dataclass(frozen=True)
class ExportSettings(StageSettings):
    """Settings of a stage that exports a network."""

    export: ExportConfig = option(ExportConfig, "the export")


class Export(Kind):
    """Writes a finished network as files that other programs read."""

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
        form = stage.settings.export.format
        check_export(make_exported(stage, name, {}, bits=stage.settings.export.bits), form)

    def describe(self, stage: Stage) -> list[str]:
        export = stage.settings.export
        bits = f" in {export.bits} bits" if export.bits else ""
        return [f"  export: {network_of(stage)} as {export.format}{bits}"]

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        return super().is_done(stage, workdir) and (workdir / stage.name / network_of(stage)).is_dir()

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        name = network_of(stage)
        variables = jit_replicated(stage)(start_weights.read(stage.runs, workdir, [name])[name])
        folder = workdir / stage.name / name
        if jax.process_index() == 0:
            export = stage.settings.export
            exported = make_exported(stage, name, variables, workdir, bits=export.bits)
            for line in write_export(folder, exported, export.format, *examples_of(stage, exported)):
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


def make_exported(
    stage: Stage, name: str, variables: Any, workdir: pathlib.Path | None = None, bits: int = 0
) -> Exported:
    """Returns a network of a stage with the contents of its export.

    Args:
        stage: the stage.
        name: of the network.
        variables: its own, on any device; none before they exist.
        workdir: the folder of the run, for the facts of a model card.
        bits: of kernels in the file.
    """
    predictor = make_predictor(stage, name)
    integers = {}
    if variables:
        variables = jax.tree.map(np.asarray, dict(variables))
        integers = trained_integers(predictor.source.views, variables) if bits else {}
        predictor, variables = predictor.finished(variables)
    config, data = stage.settings.networks[name], stage.settings.data
    results = workdir / "results.json" if workdir else None
    return Exported(
        name=name,
        model=predictor.model,
        module=predictor.source.module,
        variables=jax.tree.map(np.asarray, dict(variables)),
        class_names=predictor.source.module_class_names,
        image_spec=predictor.source.preprocess.wanted if predictor.source.preprocess else predictor.images,
        tokenizer=predictor.signature.tokenizer if predictor.signature.tokenizer != BYTES else "",
        facts={
            "Data": data.name,
            "Model": predictor.model,
            "Weights": config.weights or "",
            **_method(stage, config.weights or "", workdir),
            "Seed": str(stage.settings.seed),
        },
        results=tuple(files.read_json(results, list)) if results and results.exists() else (),
        predictor=predictor,
        bits=bits,
        integers=integers,
    )


def examples_of(stage: Stage, exported: Exported) -> tuple[dict[str, np.ndarray], str]:
    """Returns the first raw inputs of a split, the one to test on if there is one, and the split's role."""
    splits = stage.data.dataset.splits
    role = next(role for role in ("test", "validation", "train") if role in splits)
    predictor = exported.predictor
    assert predictor is not None
    signature = predictor.signature
    example = {name: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for name, x in signature.inputs.items()}
    outputs = jax.eval_shape(predictor.logits, exported.variables, example)
    size = 4 * (outputs.size + sum(x.size for x in example.values()))
    count = min(len(splits[role]), EXAMPLES, max(LEAST_EXAMPLES, EXAMPLE_BYTES // size))
    fields = splits[role].take(np.arange(count))
    prefix = TEACHER if getattr(stage.networks[exported.name], "input", "").startswith(TEACHER) else ""
    return {name: np.asarray(fields[prefix + name]).astype(x.dtype) for name, x in signature.inputs.items()}, role


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
