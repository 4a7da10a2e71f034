"""The plan of a training stage for `--plan`: steps, terms, FLOPs, memory of a device, and its step as a program."""

import jax

from jaxdistill.build.kind import Program
from jaxdistill.build.stage import Stage
from jaxdistill.core import path_name
from jaxdistill.data import loader
from jaxdistill.data.build import describe_training_split
from jaxdistill.runtime import files
from jaxdistill.train import flops, mesh, units
from jaxdistill.train.loop import compile_steps
from jaxdistill.train.partitioning import LARGE

OFFLOADED = "frozen, in the host's memory"
"""The entry of `device_bytes` that counts memory of the host."""


def describe_data(stage: Stage) -> list[str]:
    """Returns the end of the line of the data, and lines about the steps and augmentation."""
    settings, data = stage.settings, stage.settings.data
    epochs = settings.steps * settings.batch / len(stage.data.train)
    place = "resident on the device" if stage.data.resident else "streamed"
    line = f", {place}" + (f", views come again after {stage.data.cycle}" if stage.data.cycle else "")
    line += "".join(f", {words}" for words in describe_training_split(data, stage.data.task.predictions != "classes"))
    return [
        line,
        f"  {settings.steps:,} steps of {settings.batch} ({epochs:.4g} epochs)",
        f"  augment: {', '.join(data.augment) or 'nothing'}; views {data.views}",
    ]


def describe(stage: Stage) -> list[str]:
    """Returns lines about the lanes, the terms, and the cost of a step."""
    state = stage.shapes.state
    lines = [*stage.runs.describe(), "  terms:"]
    for name in stage.terms:
        lines += _describe_term(stage, name)
    program = step_program(stage)
    computed = sum(flops.count(program.function, *program.shapes).values())
    lines += [f"  a step: {computed:,} FLOPs of matrix products and convolutions"]
    lines += _describe_optimizers(stage)
    lines += _describe_memory(stage)
    networks = {name: state.params[name] for name, s in stage.networks.items() if name in state.params and s.learns}
    trained, total = (units.count_learning(stage.units, x) for x in (networks, state.params))
    lines += [f"  trained parameters: {trained:,} of networks, {total - trained:,} of methods"]
    return lines


def _describe_term(stage: Stage, name: str) -> list[str]:
    term, state = stage.terms[name], stage.shapes.state
    teacher = f" <- {term.teacher}" if term.teacher else ""
    weights = " -> ".join(dict.fromkeys(f"{float(term.weight(at)):.4g}" for at in (0, stage.settings.steps)))
    lines = [f"    {name}: {term.method!r}".split("(")[0] + f" {term.student}{teacher}, weight {weights}"]
    variables = {"params": state.params.get(name, {}), **state.variables.get(name, {})}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        lines += [f"      {path_name(path)} {tuple(leaf.shape)} {leaf.dtype}"]
    return lines


def _describe_optimizers(stage: Stage) -> list[str]:
    """Returns a line for each optimizer, if networks have their own."""
    if not units.is_split(stage.units):
        return []
    lines = []
    for unit in stage.units:
        rates = dict.fromkeys(f"{float(unit.rate(at)):.4g}" for at in (0, stage.settings.steps - 1))
        clip = f", clip {unit.spec.clip:g}" if unit.spec.clip else ""
        lines += [f"  optimizer of {', '.join(unit.networks)}: {unit.spec.name}, rate {' -> '.join(rates)}{clip}"]
    return lines


def _describe_memory(stage: Stage) -> list[str]:
    size = files.format_bytes
    parts = {name: number for name, number in device_bytes(stage).items() if number}
    offloaded = parts.pop(OFFLOADED, 0)
    listed = ", ".join(f"{name} {size(number)}" for name, number in parts.items())
    lines = [f"  mesh {dict(stage.mesh.shape)}: each device holds {size(sum(parts.values()))} ({listed})"]
    lines[0] += f", and the host {size(offloaded)} for it" if offloaded else ""
    return lines + [f"  replicated on every device: {name}" for name in large_replicated(stage)]


def device_bytes(stage: Stage) -> dict[str, int]:
    """Predicts the bytes that one device holds during training, by what they are for, from shapes and shardings."""
    runs = stage.runs
    (state, frozen), (state_shardings, frozen_shardings) = runs.shapes(), runs.shardings()
    offloaded = [name for name in frozen if stage.shapes.partitioner.networks[name].offload]
    count = mesh.bytes_per_device
    frozen_bytes = {name: count(frozen[name], frozen_shardings[name]) for name in frozen}
    sizes = {
        "parameters": count(state.params, state_shardings.params),
        "other variables": count(state.variables, state_shardings.variables),
        "optimizer": count(state.opt_state, state_shardings.opt_state),
        "written texts": count(state.texts, state_shardings.texts),
        "frozen": sum(size for name, size in frozen_bytes.items() if name not in offloaded),
        OFFLOADED: sum(frozen_bytes[name] for name in offloaded),
    }
    for name, structs in zip(("data", "batch"), _step_inputs(stage), strict=True):
        sizes[name] = count(structs, {key: x.sharding for key, x in structs.items()})
    return sizes


def large_replicated(stage: Stage) -> list[str]:
    """Returns the large arrays that no sharding rule splits, with their size; none without rules."""
    if not (stage.shapes.partitioner.rules.sets or stage.shapes.partitioner.rules.named) or stage.mesh.size == 1:
        return []
    state, frozen = stage.shapes.state, stage.shapes.frozen
    state_shardings, frozen_shardings = stage.shapes.shardings
    trees = {"params": state.params, "frozen": frozen}, {"params": state_shardings.params, "frozen": frozen_shardings}
    shapes, shardings = (jax.tree_util.tree_leaves_with_path(tree) for tree in trees)
    return [
        f"{path_name(path)} {tuple(x.shape)}, {files.format_bytes(x.size * x.dtype.itemsize)}"
        for (path, x), (_, sharding) in zip(shapes, shardings, strict=True)
        if x.size >= LARGE and sharding.is_fully_replicated
    ]


def _step_inputs(stage: Stage) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]:
    """Returns shapes of the data that stays on the device, and of the inputs of every step."""
    leading = stage.runs.batch_axes
    everywhere, rows = mesh.replicated(stage.mesh), mesh.over_rows(stage.mesh, len(leading))
    resident = stage.data.resident_arrays
    data = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere) for name, x in resident.items()}
    inputs = {name: x for name, x in stage.data.raw_batch.items() if name not in data and name != "mask"}
    return data, {n: jax.ShapeDtypeStruct((*leading, *x.shape), x.dtype, sharding=rows) for n, x in inputs.items()}


def step_program(stage: Stage) -> Program:
    """Returns one step as a program."""
    make_batch = (loader.Resident if stage.data.resident else loader.Streamed).make_batch
    runs = stage.runs
    shardings = runs.shardings()
    state, frozen = mesh.structs(runs.shapes(), shardings)
    function = compile_steps(runs.step(), make_batch, stage.mesh, shardings[0])
    return Program(function, (state, frozen, *_step_inputs(stage)), stage.settings.batch)
