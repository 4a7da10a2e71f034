"""`--plan`: a description of a run from shapes alone; steps are compiled, nothing is trained."""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata

import jax

from jaxdistill import core, networks
from jaxdistill.build.notes import notes
from jaxdistill.build.stage import Stage
from jaxdistill.config.schema import StageSettings
from jaxdistill.estimate import chips, costs
from jaxdistill.estimate import describe as estimates
from jaxdistill.pipeline import run, savings
from jaxdistill.runtime import files, topology, xla_options
from jaxdistill.runtime.topology import Topology
from jaxdistill.stages import cost
from jaxdistill.train import flops


def show(config: Mapping[str, StageSettings], workdir: pathlib.Path, target: Topology | None = None) -> None:
    """Prints the plan of every stage.

    Args:
        config: the settings of every stage.
        workdir: the folder of the run.
        target: devices to plan for that this machine need not have; those of JAX if `None`.

    Raises:
        UserError: for anything that would stop the run.
    """
    with topology.compile_for(target):
        for name, stage in run.prepare(config, workdir).items():
            xla_options.use(networks.tpu_options(stage.networks))
            print("\n".join([*describe(stage), *(f"  note: {line}" for line in notes(stage, workdir))]))

            def rebuild(settings: StageSettings, name: str = name) -> Stage:
                return run.build_stages({**config, name: settings}, workdir)[name]

            for line in _compile(stage) if target is None else _estimate(stage, target, rebuild):
                print(line, flush=True)


def _compile(stage: Stage) -> Iterator[str]:
    """Yields the line of the memory of a compiled step."""
    if "step" not in (programs := stage.kind.programs(stage)):
        return
    memory, size = costs.read_memory(programs["step"]().compile()), files.format_bytes
    yield (
        f"  compiled step ({jax.default_backend()}): {size(memory.arguments)} of arguments,"
        f" {size(memory.results)} of further results, {size(memory.working)} of working memory"
    )


def _estimate(stage: Stage, target: Topology, rebuild: Callable[[StageSettings], Stage]) -> Iterator[str]:
    """Yields the lines of the programs of a stage as compiled for a topology."""
    chip, devices = chips.find_chip(target), len(target.devices)
    version = f"{target.compiler} {metadata.version(target.compiler)}"
    for name, make in stage.kind.programs(stage).items():
        program = make()
        yield f"  {name} compiled for {devices} x {chip.kind} ({target.name}) by {version}:"
        try:
            compiled = program.compile()
        except jax.errors.JaxRuntimeError as error:
            if (needed := costs.read_excess(error)) is None:
                raise
            fits = False
            yield f"    memory: {files.format_bytes(needed)} of {files.format_bytes(chip.memory)}: does not fit"
        else:
            counted = flops.count(program.function, *program.shapes)
            estimate = costs.estimate(compiled, chip, counted, devices)
            yield from estimates.describe(estimate, chip, counted, examples=program.examples, devices=devices)
            needed, fits = estimate.memory.peak, estimate.memory.peak <= chip.memory
        if name == "step" and not fits:
            yield from savings.describe(stage, needed, chip, rebuild)


def describe(stage: Stage) -> list[str]:
    """Returns the plan of one stage, a line each: data, networks, and the lines of its kind."""
    role, examples = stage.kind.split(stage)
    dataset, name = stage.data.dataset, stage.settings.data.name
    reading, *more = stage.kind.describe_data(stage)
    return [
        f"\nstage {stage.name} ({stage.settings.kind})",
        f"  data: {name} {role}, {examples:,} examples of {dataset.shape}, {stage.data.task.choices}{reading}",
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
    describe_module = getattr(getattr(stage.networks[name], "module", None), "describe", None)
    with jax.sharding.use_abstract_mesh(stage.mesh.abstract_mesh):
        more = [f"      {describe_module(output)}"] if describe_module else []
    return [
        f"    {name}: {source}, {parameters:,} parameters, {flops:,} FLOPs per example",
        f"      logits {core.describe_logits(output.logits)}; taps {taps or 'none'}",
        *more,
    ]
