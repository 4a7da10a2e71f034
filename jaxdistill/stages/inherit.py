"""Stages of kind "inherit": a smaller network begins from a larger one; nothing is trained.

    stages.start = dict(
        kind="inherit",
        networks=dict(teacher=dict(source="frozen", weights="stage:teacher"), student=dict(weights="")),
        inherit=dict(network="teacher", into="student", match="embedding$", by="pca"),
    )

Later stages name the result as `weights="stage:start"`. Arrays of the same name belong to each other
(`compress.inherit`), so that a bag of embeddings can begin from the table of an encoder; all others are drawn as for a
network that is trained from the start.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.compress import channels, inherit, unit_groups
from jaxdistill.compress.inherit import Inheritance
from jaxdistill.compress.views import flatten, unflatten
from jaxdistill.config.parse import option
from jaxdistill.config.schema import StageSettings
from jaxdistill.core import Variables
from jaxdistill.errors import UserError
from jaxdistill.stages import derived_network, start_weights
from jaxdistill.stages.merge_data import jit_replicated
from jaxdistill.train.init import init_network


@dataclasses.dataclass(frozen=True)
class InheritConfig:
    network: str = option("teacher", "network with the weights")
    into: str = option("student", "network that begins from them")
    match: str = option("embedding$", "regular expression of the names of the arrays that are inherited; all if empty")
    by: str = option("pca", "way to a smaller width: principal components, or a slice", choices=inherit.RULES)
    blocks: tuple[int, ...] = option((), "block there of each block; evenly spaced ones if empty")


@dataclasses.dataclass(frozen=True)
class InheritSettings(StageSettings):
    """Settings of a stage in which a network begins from a larger one."""

    inherit: InheritConfig = option(InheritConfig, "the networks")


class Inherit(Kind):
    """Makes the first weights of a network from those of a larger one."""

    settings = InheritSettings

    def saved(self, stage: Stage) -> list[str]:
        return [stage.settings.inherit.into]

    def initialised(self, stage: Stage) -> list[str]:
        return self.saved(stage)

    def check(self, stage: Stage) -> None:
        spec, path = stage.settings.inherit, f"stage {stage.name!r}: inherit"
        sources = derived_network.check(stage, path, spec.network, spec.into)
        for name, source in zip((spec.network, spec.into), sources, strict=True):
            if source.views:
                raise UserError(f"networks.{name}.compress must be empty in {stage.name!r}, got views. Remove them")
        super().check(stage)
        shapes = stage.shapes.variables
        for name in (spec.network, spec.into):
            if any(channels.is_scanned(array) for array in flatten(shapes[name])):
                raise UserError(
                    f"networks.{name}.scan must be False in stage {stage.name!r}, where blocks and units are chosen one"
                    " by one, got True. Leave it out"
                )
        jax.eval_shape(lambda: _derive(stage, *(_zeros(shapes[name]) for name in (spec.network, spec.into))).arrays)

    def describe(self, stage: Stage) -> list[str]:
        spec, shapes = stage.settings.inherit, stage.shapes.variables
        names: list[str] = []

        def derive() -> None:
            names.extend(_derive(stage, *(_zeros(shapes[name]) for name in (spec.network, spec.into))).names)

        jax.eval_shape(derive)
        return [f"  inherit: {spec.into} begins from {spec.network} in {len(names)} arrays: {_list(names)}"]

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        spec = stage.settings.inherit
        large = start_weights.read(stage.runs, workdir, [spec.network])[spec.network]
        key = jax.random.key(stage.settings.seed)
        names: list[str] = []

        def start(large: Variables) -> Variables:
            batch = {name: jnp.zeros(x.shape, x.dtype) for name, x in stage.shapes.batch.items()}
            fresh = init_network(spec.into, stage.networks[spec.into], {}, {}, batch=batch, key=key)[0]
            arrays, inherited = _derive(stage, large, fresh)
            names.extend(inherited)
            return unflatten(arrays)

        metadata = derived_network.save(
            stage, spec.into, jax.jit(start)(jit_replicated(stage)(large)), workdir / stage.name
        )
        log(f"stage {stage.name}: {spec.into} begins from {spec.network} in {len(names)} arrays: {_list(names)}")
        return metadata | {"inherited": names}


def _derive(stage: Stage, large: Variables, fresh: Variables) -> Inheritance:
    """Returns the arrays of the smaller network, and which of them are inherited."""
    spec = stage.settings.inherit
    source: Any = stage.networks[spec.network]
    model = source.model(stage.shapes.batch)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(large))
    units = unit_groups.find(model.apply, shapes, model.batch)
    large, fresh = flatten(large), flatten(fresh)
    path = f"stage {stage.name!r}: inherit"
    return inherit.inherit(large, fresh, units, match=spec.match, rule=spec.by, blocks=spec.blocks, path=path)


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _list(names: list[str]) -> str:
    short = [name.removeprefix("params/") for name in names]
    return ", ".join(short[:4]) + (", ..." if len(short) > 4 else "")
