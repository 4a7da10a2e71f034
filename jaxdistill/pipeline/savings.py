"""Changes of a stage's settings with which its step needs less memory of a device, and the bytes that each saves."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxdistill.build.stage import Stage
from jaxdistill.config.schema import StageSettings
from jaxdistill.errors import UserError
from jaxdistill.estimate import costs
from jaxdistill.estimate.chips import Chip
from jaxdistill.runtime import files
from jaxdistill.train import mesh

CHUNK = 512
"""Tokens whose logits a term compares at a time."""

TIMES_ACCUMULATED = (8, 4, 2)


@dataclasses.dataclass(frozen=True)
class Change:
    """Other settings of a stage, and the keys that differ, as flags have them."""

    keys: str
    settings: StageSettings


def list_changes(stage: Stage) -> list[Change]:
    """Returns the changes that a stage has not made yet, and all of them together if there are several."""
    changes: list[Change] = []
    together = stage.settings
    for change in (_rematerialize, _halve, _shard, _compare_in_chunks, _accumulate):
        keys, changed = change(stage, stage.settings)
        if keys:
            changes.append(Change(", ".join(keys), changed))
            together = change(stage, together)[1]
    if len(changes) > 1:
        changes.append(Change("all of these", together))
    return changes


def describe(stage: Stage, needed: int, chip: Chip, rebuild: Callable[[StageSettings], Stage]) -> Iterator[str]:
    """Yields a line for each change that saves memory; the step is compiled with each.

    Args:
        stage: one whose step does not fit.
        needed: the bytes of a device that it needs.
        chip: the device.
        rebuild: builds the stage from other settings.
    """
    size = files.format_bytes
    for change in list_changes(stage):
        try:
            bytes_needed, fits = measure_step(rebuild(change.settings), chip)
        except UserError:  # such as micro-batches for a method that compares the rows of a batch
            continue
        if bytes_needed < needed:
            verdict = "fits" if fits else "does not fit"
            yield f"    with {change.keys}: {size(bytes_needed)}, {size(needed - bytes_needed)} less: {verdict}"


def measure_step(stage: Stage, chip: Chip) -> tuple[int, bool]:
    """Returns the bytes of a device that a compiled step needs, and whether it has them."""
    try:
        needed = costs.read_memory(stage.kind.programs(stage)["step"]().compile()).peak
        return needed, needed <= chip.memory
    except jax.errors.JaxRuntimeError as error:
        if (excess := costs.read_excess(error)) is None:
            raise
        return excess, False


Changed = tuple[list[str], Any]
"""The keys that differ, none if nothing does, and settings with them."""


def _rematerialize(stage: Stage, settings: Any) -> Changed:
    """Recomputes blocks of networks that learn in the backward pass."""
    names = [name for name, source in stage.networks.items() if source.learns]
    names = [name for name in names if settings.networks[name].options.get("remat") == ""]
    return _set_options(settings, names, "remat", "block")


def _halve(stage: Stage, settings: Any) -> Changed:
    """Computes in bfloat16."""
    names = [name for name, config in settings.networks.items() if config.options.get("dtype") == "float32"]
    return _set_options(settings, names, "dtype", "bfloat16")


def _set_options(settings: Any, names: list[str], key: str, value: str) -> Changed:
    networks = dict(settings.networks)
    for name in names:
        networks[name] = dataclasses.replace(networks[name], options={**networks[name].options, key: value})
    return [f"networks.{name}.{key}={value}" for name in names], dataclasses.replace(settings, networks=networks)


def _shard(stage: Stage, settings: Any) -> Changed:
    """Splits weights, gradients and optimizer over the devices."""
    if stage.mesh.size == 1 or stage.mesh.shape["fsdp"] > 1:
        return [], settings
    shape = dataclasses.replace(settings.mesh, data=1, fsdp=-1)
    changed = dataclasses.replace(settings, sharding=(*settings.sharding, "fsdp"), mesh=shape)
    return ["sharding=fsdp mesh.data=1 mesh.fsdp=-1"], changed


def _compare_in_chunks(stage: Stage, settings: Any) -> Changed:
    """Computes logits of some tokens at a time."""
    terms, keys = dict(settings.terms), []
    for name, config in settings.terms.items():
        if config.fields.get("chunk") == 0 and stage.shapes.num_axes(config.student) > 1:
            terms[name] = dataclasses.replace(config, fields={**config.fields, "chunk": CHUNK})
            keys.append(f"terms.{name}.chunk={CHUNK}")
    return keys, dataclasses.replace(settings, terms=terms)


def _accumulate(stage: Stage, settings: Any) -> Changed:
    """Adds up the gradient of parts of the batch."""
    rows = settings.batch // mesh.num_blocks(stage.mesh)
    for times in TIMES_ACCUMULATED:
        number = settings.accumulate * times
        if rows % number == 0:
            return [f"accumulate={number}"], dataclasses.replace(settings, accumulate=number)
    return [], settings
