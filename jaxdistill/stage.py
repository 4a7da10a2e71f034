"""A stage of a run, built: what it trains or measures, on what, and how; shapes of all of it without computing any."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxdistill import core, metrics, networks
from jaxdistill.core import Schedule, Term
from jaxdistill.data import loader, sources
from jaxdistill.errors import UserError, unknown
from jaxdistill.heads import Components
from jaxdistill.train.init import initial

RESIDENT_LIMIT = 2 << 30
"""Bytes up to which `data.resident="auto"` holds the training split on the device."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage, built. `settings` are its config with durations in steps."""

    name: str
    settings: Mapping[str, Any]
    dataset: sources.Dataset
    networks: Mapping[str, networks.Source]
    terms: Mapping[str, Term]
    tx: optax.GradientTransformation
    rate: Schedule
    augment: Callable
    prepare: Callable
    mesh: Mesh
    part: loader.Part

    @functools.cached_property
    def train(self) -> sources.Split:
        split, labels = self.dataset.split("train"), self.settings["data"]["labels"]
        return sources.FewLabels.of(split, labels) if labels else split

    @functools.cached_property
    def raw(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a raw batch."""
        batch = self.settings["batch"]
        dtype = self.dataset.split("train").take(np.arange(1))["image"].dtype
        rows = {"label": jnp.int32, "index": jnp.int32, "view": jnp.int32, "mask": jnp.float32}
        image = jax.ShapeDtypeStruct((batch, *self.dataset.shape), dtype)
        return {"image": image} | {name: jax.ShapeDtypeStruct((batch,), kind) for name, kind in rows.items()}

    @functools.cached_property
    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of an augmented batch."""
        return jax.eval_shape(self.augment, self.raw)

    def initial(self, starts=None):
        """The first state and frozen variables, from the networks' starts (`train.init`)."""
        key = jax.random.key(self.settings["seed"])
        return initial(self.networks, self.terms, self.tx, self.batch, key, starts or {})

    @functools.cached_property
    def shapes(self):
        """Shapes of the first state and of the frozen variables."""
        return jax.eval_shape(self.initial)

    @functools.cached_property
    def fresh(self) -> dict[str, Any]:
        """Shapes of each network's own variables, by name."""
        state, frozen = self.shapes
        known = core.merge(state.params, state.variables, frozen)
        return {name: known[name] for name in self.networks if name in known}

    @functools.cached_property
    def outputs(self) -> dict[str, Any]:
        """Shapes of what each network says about a batch."""

        def say(batch):
            key = jax.random.key(self.settings["seed"])
            state, frozen = initial(self.networks, {}, self.tx, self.batch, key, {})
            return networks.run(self.networks, core.merge(state.params, state.variables, frozen), batch, None)[0]

        try:
            said = jax.eval_shape(say, self.batch)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            what = str(error).partition("\n")[0]
            raise UserError(f"stage {self.name!r}: its networks cannot be run on its data: {what}") from error
        return {name: said[name] for name in self.networks}

    @property
    def reference(self) -> str:
        """The network that fidelity is measured against: the one named, else the teacher, else none ("")."""
        return self.settings["evaluate"]["reference"] or ("teacher" if "teacher" in self.networks else "")

    @property
    def evaluation_batch(self) -> int:
        return self.settings["evaluate"]["batch"] or self.settings["batch"]

    @property
    def fitted(self) -> list[str]:
        """The networks that a stage of kind "components" fits."""
        heads = {n: getattr(source, "head", None) for n, source in self.networks.items()}
        return [n for n, head in heads.items() if isinstance(head, Components)]

    @property
    def saved(self) -> list[str]:
        """The networks whose variables its checkpoints hold."""
        if self.settings["kind"] == "components":
            return self.fitted
        return [n for n, s in self.networks.items() if n in self.fresh and not s.frozen]

    @property
    def measured(self) -> list[str]:
        """The networks that are evaluated: those named; else all of them, and in training those that learn."""
        spec = self.settings["evaluate"]
        if spec["split"] not in self.dataset.splits:
            return []
        if spec["networks"] or self.settings["kind"] == "evaluate":
            return list(spec["networks"] or self.networks)
        return [n for n in self.saved if not isinstance(self.networks[n], networks.Exit)] if spec["metrics"] else []

    @property
    def numbers(self) -> list[str]:
        """The numbers that an evaluation finds and a checkpoint can be best by, the student's first."""
        rows = sorted(self.measured, key=lambda name: name != "student")
        able = [n for n, m in self.metrics().items() if m.better and (self.reference or not m.needs_reference)]
        return [f"{row}/{name}" for row in rows for name in able]

    def loader(self):
        """The loader of the training split: resident where asked or where it fits, else streamed."""
        data, batch, seed = self.settings["data"], self.settings["batch"], self.settings["seed"]
        if is_resident(data, self.dataset):
            return loader.Resident.of(self.train, seed=seed, batch=batch, classes=self.dataset.classes, part=self.part)
        return loader.Streamed(self.train, seed, batch, self.dataset.classes, self.part)

    def metrics(self) -> dict[str, Any]:
        return {name: metrics.find(name) for name in self.settings["evaluate"]["metrics"]}


def is_resident(data: Mapping[str, Any], dataset: sources.Dataset) -> bool:
    """Whether the training split is held on the device."""
    if data["resident"] not in ("auto", "yes", "no"):
        raise unknown("setting of data.resident", data["resident"], ("auto", "yes", "no"))
    size = len(dataset.split("train")) * math.prod(dataset.shape)
    return data["resident"] == "yes" or (data["resident"] == "auto" and size <= RESIDENT_LIMIT)
