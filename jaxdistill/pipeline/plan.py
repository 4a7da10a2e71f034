"""`--plan`: a description of a run from shapes alone; steps are compiled, nothing is trained."""

import pathlib
from collections.abc import Mapping

from jaxdistill import core
from jaxdistill.build.notes import notes
from jaxdistill.build.stage import Stage
from jaxdistill.config.schema import StageSettings
from jaxdistill.pipeline import run
from jaxdistill.stages import cost


def show(config: Mapping[str, StageSettings], workdir: pathlib.Path) -> None:
    """Prints the plan of every stage.

    Raises:
        UserError: for anything that would stop the run.
    """
    for stage in run.prepare(config, workdir).values():
        print("\n".join([*describe(stage), *(f"  note: {line}" for line in notes(stage, workdir))]))


def describe(stage: Stage) -> list[str]:
    """Returns the plan of one stage, a line each: data, networks, and the lines of its kind."""
    role, examples = stage.kind.split(stage)
    dataset, name = stage.data.dataset, stage.settings.data.name
    choices = f"{stage.data.task.num_classes} {stage.data.task.class_noun}"
    reading, *more = stage.kind.describe_data(stage)
    return [
        f"\nstage {stage.name} ({stage.settings.kind})",
        f"  data: {name} {role}, {examples:,} examples of {dataset.shape}, {choices}{reading}",
        *more,
        "  networks:",
        *(line for network in stage.networks for line in _describe_network(stage, network)),
        *stage.kind.describe(stage),
    ]


def _describe_network(stage: Stage, name: str) -> list[str]:
    parameters, flops = cost.count(stage, name)
    config, output = stage.settings.networks[name], stage.shapes.outputs[name]
    start = config.weights or config.options.get("cache", "")
    source = type(stage.networks[name]).__name__.lower() + (f" from {start}" if start else "")
    taps = ", ".join(f"{tap} {tuple(x.shape[1:])}" for tap, x in output.taps.items())
    return [
        f"    {name}: {source}, {parameters:,} parameters, {flops:,} FLOPs per example",
        f"      logits {core.describe_logits(output.logits)}; taps {taps or 'none'}",
    ]
