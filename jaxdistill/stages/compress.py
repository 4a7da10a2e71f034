"""Stages of kind "compress": the views of a network are fitted to finished weights by real data; nothing is trained.

    stages.small = dict(
        kind="compress",
        networks=dict(
            teacher=dict(source="frozen", weights="stage:teacher"),
            student=dict(like="teacher", source="trained", weights="",
                         compress=dict(half=dict(view="structure", keep=0.5))),
        ),
        compress=dict(network="teacher", into="student", batches=8),
    )

Later stages name the result as `weights="stage:small"`, for a network with the same views. Views that store other
arrays than the model declares need such a stage; others choose better in one, such as the ranges of activations.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdistill import core
from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.compress.view import Interceptor, Model
from jaxdistill.config.parse import option
from jaxdistill.config.schema import StageSettings
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks import Trained
from jaxdistill.stages import derived_network, start_weights
from jaxdistill.stages.merge_data import jit_replicated, plain_batches
from jaxdistill.train import mesh


@dataclasses.dataclass(frozen=True)
class CompressConfig:
    network: str = option("teacher", "network with the weights")
    into: str = option("student", "network of the same model, with the views")
    batches: int = option(8, "batches of the training split by which views choose", least=1)


@dataclasses.dataclass(frozen=True)
class CompressSettings(StageSettings):
    """Settings of a stage that compresses a network."""

    compress: CompressConfig = option(CompressConfig, "the network to compress")


class Compress(Kind):
    """Fits the views of a network to the weights of another of its model."""

    settings = CompressSettings

    def saved(self, stage: Stage) -> list[str]:
        return [stage.settings.compress.into]

    def initialised(self, stage: Stage) -> list[str]:
        return self.saved(stage)

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return [("train", False, [stage.settings.compress.network])]

    def split(self, stage: Stage) -> tuple[str, int]:
        return "train", len(stage.data.train)

    def check(self, stage: Stage) -> None:
        spec, path = stage.settings.compress, f"stage {stage.name!r}: compress"
        dense, small = derived_network.check(stage, path, spec.network, spec.into)
        if dense.views:
            raise UserError(f"networks.{spec.network}.compress must be empty in {stage.name!r}, got views. Remove them")
        if not small.views:
            raise UserError(
                f"networks.{spec.into}.compress must have a view in stage {stage.name!r}, got none. Add"
                " compress=dict(half=dict(view='structure', keep=0.5))"
            )
        if dense.module != small.module:
            raise UserError(
                f"{path}.into must be a network of the model of {spec.network!r}, got {spec.into!r} with other fields."
                f" Set networks.{spec.into}=dict(like={spec.network!r}, ...)"
            )
        taken = [jax.eval_shape(source.main_input, stage.shapes.batch).shape[1:] for source in (dense, small)]
        if taken[0] != taken[1]:
            raise UserError(
                f"{path}.into must be a network on inputs {list(taken[0])}, as {spec.network!r} is, got {spec.into!r}"
                f" on {list(taken[1])}. Set data of stage {stage.name!r} to that of the stage that trained it"
            )
        super().check(stage)

    def describe(self, stage: Stage) -> list[str]:
        spec = stage.settings.compress
        before, after = (_num_params(stage, name) for name in (spec.network, spec.into))
        views = ", ".join(name for name, _ in stage.networks[spec.into].views.entries)
        return [f"  compress: {spec.network} into {spec.into} by {views}, {before:,} params to {after:,}"]

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        spec = stage.settings.compress
        variables = start_weights.read(stage.runs, workdir, [spec.network])[spec.network]
        source = stage.networks[spec.into]
        calibration = StageCalibration(stage, source.module, source, spec.batches)
        fitted = source.views.fit(jit_replicated(stage)(variables), calibration)
        metadata = derived_network.save(stage, spec.into, fitted, workdir / stage.name)
        numbers = {"params_before": core.count(variables["params"]), "params": core.count(fitted["params"])}
        log(f"stage {stage.name}: {spec.into} has {numbers['params']:,} params of {numbers['params_before']:,}")
        return metadata | numbers


@dataclasses.dataclass(frozen=True)
class StageCalibration:
    """The data of a stage and the outputs of a network, by which views choose.

    Attributes:
        stage: the stage.
        module: the network's.
        source: the network, whose input and preprocessing are used.
        count: number of batches.
    """

    stage: Stage
    module: nn.Module
    source: Trained
    count: int

    def batches(self) -> Iterator[Batch]:
        """Yields batches of the training split, unaugmented; those past its end are masked."""
        prepare = jax.jit(mesh.traced_on(self.stage.mesh, self.stage.data.prepare))
        for batch in plain_batches(self.stage, min(self.count * self.stage.settings.batch, len(self.stage.data.train))):
            yield prepare(mesh.put(self.stage.mesh, batch))

    def model(self) -> Model:
        """Returns the module as a function, without its views."""
        return self.source.model(next(self.batches()))

    def predict(self, variables: Variables, batch: Batch, *interceptors: Interceptor) -> Output:
        """Returns the output of the module, applied to variables under interceptors, in inference."""
        plain = Trained(self.module, self.source.input, self.source.preprocess)
        with contextlib.ExitStack() as stack:
            for interceptor in interceptors:
                stack.enter_context(nn.intercept_methods(interceptor))
            output = plain(variables, batch, {}, None)[0]
        return self.source.in_class_order(output)

    def loss(self, variables: Variables, batch: Batch, *interceptors: Interceptor) -> Array:
        """Returns the mean cross-entropy of the labels that count, in nats."""
        logits = core.precise(self.predict(variables, batch, *interceptors).logits)
        label = batch["label"]
        values = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(label, 0)[..., None], -1)[..., 0]
        return -core.mean(values, batch["valid"] * (label >= 0))


def _num_params(stage: Stage, network: str) -> int:
    return core.count(stage.shapes.variables[network]["params"])
