"""A stage of a run, built from its settings."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxdistill.build.data import StageData
from jaxdistill.build.evaluation import StageEvaluation
from jaxdistill.build.runs import Runs, Single
from jaxdistill.build.shapes import StageShapes, make_partitioner
from jaxdistill.config import references
from jaxdistill.config.references import WeightsRef
from jaxdistill.config.schema import StageSettings
from jaxdistill.core import State, Term, Variables
from jaxdistill.generation import on_policy
from jaxdistill.networks import Source
from jaxdistill.train import units
from jaxdistill.train.init import init_state
from jaxdistill.train.units import Unit

if TYPE_CHECKING:
    from jaxdistill.build.kind import Kind


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage, built.

    Attributes:
        name: the stage's name in the config.
        kind: the kind of stage.
        settings: its settings, with durations in steps.
        data: its examples and caches.
        networks: by name, each after those it needs.
        terms: by name.
        units: the networks that learn, by the optimizer that updates them; () if none do.
        mesh: the devices.
        make_runs: makes the form of its runs: a single one, or lanes.
    """

    name: str
    kind: "Kind"
    settings: StageSettings
    data: StageData
    networks: Mapping[str, Source]
    terms: Mapping[str, Term]
    units: tuple[Unit, ...]
    mesh: Mesh
    make_runs: Callable[["Stage"], Runs] = Single

    @functools.cached_property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer."""
        return units.combine(self.units) if self.units else optax.identity()

    @functools.cached_property
    def runs(self) -> Runs:
        """Its runs, one or several side by side."""
        return self.make_runs(self)

    @functools.cached_property
    def write(self) -> on_policy.Write:
        """The function of a batch by which a network writes texts of it; of a stage that trains."""
        settings = self.settings.on_policy
        if not settings.share:
            return lambda variables, batch, key, state: (batch, {}, {})
        return on_policy.make_write(settings, self.networks, self.data.task.align)

    @functools.cached_property
    def texts(self) -> dict[str, Any]:
        """Shapes of the texts that its state holds."""
        return on_policy.buffer(self.settings.on_policy, self.data.batch) if self.kind.trains else {}

    @functools.cached_property
    def shapes(self) -> StageShapes:
        """Shapes of its state, frozen variables and outputs."""
        specs, sharding = self.settings.networks, self.settings.sharding
        partitioner = make_partitioner(self.mesh, sharding, self.networks, specs)
        return StageShapes(
            stage=self.name,
            networks=self.networks,
            terms=self.terms,
            tx=self.tx,
            batch=self.data.batch,
            partitioner=partitioner,
            texts=self.texts,
        )

    @functools.cached_property
    def evaluation(self) -> StageEvaluation:
        """The networks, metrics and pairs of its evaluation."""
        reference = self.settings.evaluate.reference or ("teacher" if "teacher" in self.networks else "")
        measured = self.kind.measured(self)
        pairs = self.kind.pairs(self, reference)
        return StageEvaluation(
            stage=self.name,
            settings=self.settings.evaluate,
            task=self.data.task,
            networks=measured,
            reference=reference,
            pairs=pairs,
        )

    @functools.cached_property
    def references(self) -> dict[str, dict[str, WeightsRef]]:
        """The weights and caches that its networks name: `{network: {key: reference}}`."""
        return references.parse_networks(self.settings.networks)

    def init(
        self, weights: Mapping[str, Variables] | None = None, seed: int | jax.Array | None = None
    ) -> tuple[State, dict[str, Variables]]:
        """Returns the first state and the frozen variables.

        Args:
            weights: variables of networks that do not start at random.
            seed: the seed; the stage's own if `None`.
        """
        key = jax.random.key(self.settings.seed if seed is None else seed)
        batch = self.data.batch
        state, frozen = init_state(self.networks, self.terms, self.tx, batch, key=key, weights=weights or {})
        texts = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.texts)
        return dataclasses.replace(state, texts=texts), frozen
