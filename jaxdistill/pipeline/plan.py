"""`--plan`: what a run would do, from shapes alone; the step is compiled, nothing is trained."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxdistill import core
from jaxdistill.build.stage import Stage
from jaxdistill.core import path_name
from jaxdistill.data import loader
from jaxdistill.data.build import described
from jaxdistill.pipeline import run
from jaxdistill.stages import cache
from jaxdistill.stages.lanes import runs_of
from jaxdistill.stages.results import cost
from jaxdistill.train import flops, mesh
from jaxdistill.train.loop import compile_steps
from jaxdistill.train.partitioning import LARGE


def show(config: Mapping[str, Any], workdir: pathlib.Path) -> None:
    """Prints the plan of every stage.

    Raises:
        UserError: for whatever would stop the run.
    """
    for stage in run.prepare(config, workdir).values():
        print("\n".join(describe(stage)))


def describe(stage: Stage) -> list[str]:
    """Writes the plan of one stage, a line each."""
    settings, data = stage.settings, stage.settings["data"]
    trains = settings["kind"] == "train"
    split = "train" if trains else settings["evaluate"]["split"]
    examples = len(stage.train if trains else stage.dataset.split(split))
    lines = [f"\nstage {stage.name} ({settings['kind']})"]
    shape, classes = stage.dataset.shape, stage.dataset.classes
    kind = "classes" if stage.dataset.class_names else "next tokens"
    lines += [f"  data: {data['name']} {split}, {examples:,} examples of {shape}, {classes} {kind}"]
    if trains:
        epochs = settings["steps"] * settings["batch"] / examples
        where = "resident on the device" if stage.resident else "streamed"
        lines[-1] += f", {where}" + (f", views come again after {stage.cycle}" if stage.cycle else "")
        lines[-1] += "".join(f", {words}" for words in described(data))
        lines += [f"  {settings['steps']:,} steps of {settings['batch']} ({epochs:.4g} epochs)"]
        lines += [f"  augment: {', '.join(data['augment']) or 'nothing'}; views {data['views']}"]
    lines += ["  networks:"]
    said = stage.outputs
    for name, source in stage.networks.items():
        parameters, computed = cost(stage, name)
        start = settings["networks"][name].get("weights") or settings["networks"][name].get("cache", "")
        kind = type(source).__name__.lower() + (f" from {start}" if start else "")
        lines += [f"    {name}: {kind}, {parameters:,} parameters, {computed:,} FLOPs per example"]
        taps = ", ".join(f"{tap} {tuple(x.shape[1:])}" for tap, x in said[name].taps.items())
        lines += [f"      logits {core.describe_logits(said[name].logits)}; taps {taps or 'none'}"]
    if settings["kind"] == "merge":
        return lines + _merge(settings["merge"])
    return lines + (_training(stage) if trains else _cache(stage) if settings["kind"] in cache.KINDS else [])


def _merge(spec: Mapping[str, Any]) -> list[str]:
    aligned = ", aligned" if spec["align"] else ""
    about = f", about {spec['base']}" if spec["base"] else ""
    return [f"  merge: {spec['rule']} of {', '.join(spec['networks'])}{aligned}{about}, as {spec['into']!r}"]


def _cache(stage: Stage) -> list[str]:
    header = cache.header(stage, {})
    splits = " + ".join(f"{role} {n:,} x {views}" for role, (n, views) in header.splits.items())
    arrays = ", ".join(f"{name} {list(shape)} {dtype}" for name, (shape, dtype) in header.arrays.items())
    size = header.record.itemsize
    return [f"  cache: {splits} = {header.records:,} records of {size:,} B ({arrays}): {_size(header.bytes)}"]


def _training(stage: Stage) -> list[str]:
    settings = stage.settings
    state, _ = stage.shapes
    lines = [*runs_of(stage).describe(), "  terms:"]
    for name, term in stage.terms.items():
        towards = f" <- {term.teacher}" if term.teacher else ""
        weights = sorted({float(term.weight(0)), float(term.weight(settings["steps"]))})
        lines += [f"    {name}: {term.method!r}".split("(")[0] + f" {term.student}{towards}, weight {weights}"]
        own = {"params": state.params.get(name, {}), **state.variables.get(name, {})}
        for path, leaf in jax.tree_util.tree_leaves_with_path(own):
            lines += [f"      {path_name(path)} {tuple(leaf.shape)} {leaf.dtype}"]
    program, shapes = step_program(stage)
    computed = sum(flops.count(program, *shapes).values())
    lines += [f"  a step: {computed:,} FLOPs of matrix products and convolutions"]
    lines += _memory(stage)
    trained = sum(core.count(state.params[n]) for n, s in stage.networks.items() if n in state.params and s.learns)
    lines += [f"  trained parameters: {trained:,} of networks, {core.count(state.params) - trained:,} of methods"]
    return lines


def _memory(stage: Stage) -> list[str]:
    told = {name: size for name, size in held(stage).items() if size}
    away = told.pop("frozen, in the host's memory", 0)
    parts = ", ".join(f"{name} {_size(size)}" for name, size in told.items())
    lines = [f"  mesh {dict(stage.mesh.shape)}: each device holds {_size(sum(told.values()))} ({parts})"]
    lines[0] += f", and the host {_size(away)} for it" if away else ""
    lines += [f"  whole on every device: {name}" for name in whole(stage)]
    memory = compile_step(stage).memory_analysis()
    if memory:
        beside = memory.output_size_in_bytes - memory.alias_size_in_bytes
        lines += [
            f"  compiled step ({jax.default_backend()}): {_size(memory.argument_size_in_bytes)} held,"
            f" {_size(beside)} of results beside, {_size(memory.temp_size_in_bytes)} of working memory"
        ]
    return lines


def held(stage: Stage) -> dict[str, int]:
    """Predicts the bytes that one device holds during a stage of kind "train", from shapes and shardings alone."""
    (state, frozen), placed = runs_of(stage).shapes(), runs_of(stage).shardings()
    away = [name for name in frozen if stage.placement.cast[name].offload]
    fed = _fed(stage)
    bytes_of = mesh.bytes_per_device
    sizes = {
        "parameters": bytes_of(state.params, placed[0].params),
        "other variables": bytes_of(state.variables, placed[0].variables),
        "optimizer": bytes_of(state.opt_state, placed[0].opt_state),
        "frozen": sum(bytes_of(frozen[name], placed[1][name]) for name in frozen if name not in away),
        "frozen, in the host's memory": sum(bytes_of(frozen[name], placed[1][name]) for name in away),
    }
    for what, structs in zip(("data", "batch"), fed, strict=True):
        sizes[what] = bytes_of(structs, {name: x.sharding for name, x in structs.items()})
    return sizes


def whole(stage: Stage) -> list[str]:
    """The large arrays of the networks that `sharding` splits nowhere, told with their size; none where it is empty."""
    if not (stage.placement.rules.sets or stage.placement.rules.named) or stage.mesh.size == 1:
        return []
    (state, frozen), placed = stage.shapes, stage.placed
    trees = {"params": state.params, "frozen": frozen}, {"params": placed[0].params, "frozen": placed[1]}
    shapes, where = (jax.tree_util.tree_leaves_with_path(tree) for tree in trees)
    return [
        f"{path_name(path)} {tuple(x.shape)}, {_size(x.size * x.dtype.itemsize)}"
        for (path, x), (_, one) in zip(shapes, where, strict=True)
        if x.size >= LARGE and one.is_fully_replicated
    ]


def _fed(stage: Stage) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]:
    """What is held of the data, and what is fed in every step."""
    beside = runs_of(stage).batch_axes
    everywhere, rows = mesh.replicated(stage.mesh), mesh.over_rows(stage.mesh, len(beside))
    data = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere) for name, x in stage.held.items()}
    fed = {name: x for name, x in stage.raw.items() if name not in data and name != "mask"}
    return data, {n: jax.ShapeDtypeStruct((*beside, *x.shape), x.dtype, sharding=rows) for n, x in fed.items()}


def compile_step(stage: Stage):
    """Compiles one step from shapes alone."""
    program, shapes = step_program(stage)
    return program.lower(*shapes).compile()


def step_program(stage: Stage):
    """Returns one step as a program, not compiled, and the shapes that it is called with."""
    raw = (loader.Resident if stage.resident else loader.Streamed).make_batch
    runs = runs_of(stage)
    placed = runs.shardings()
    state, frozen = mesh.structs(runs.shapes(), placed)
    return compile_steps(runs.step(), raw, stage.mesh, placed[0]), (state, frozen, *_fed(stage))


def _size(number: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.4g} {unit}"
        number /= 1024
    raise AssertionError
