"""Shapes of everything in a stage, and the shardings of its arrays; nothing is computed."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from jaxdistill import core, networks
from jaxdistill.config.members import NetworkConfig
from jaxdistill.core import Output, State, Term, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks import Source
from jaxdistill.train.init import init_shapes
from jaxdistill.train.partitioning import NetworkRules, Partition, Partitioner, Rules


@dataclasses.dataclass(frozen=True)
class StageShapes:
    """Shapes of a stage's state, frozen variables and outputs.

    Attributes:
        stage: the stage's name, for messages.
        networks: by name.
        terms: by name.
        tx: the optimizer.
        batch: shapes of an augmented batch.
        partitioner: the rules of sharding.
        texts: of the state.
    """

    stage: str
    networks: Mapping[str, Source]
    terms: Mapping[str, Term]
    tx: optax.GradientTransformation
    batch: Mapping[str, jax.ShapeDtypeStruct]
    partitioner: Partitioner
    texts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def _initial(self) -> tuple[State, dict[str, Variables]]:
        state, frozen, _ = init_shapes(self.networks, self.terms, self.tx, self.batch)
        return dataclasses.replace(state, texts=self.texts), frozen

    @property
    def state(self) -> State:
        """The first state."""
        return self._initial[0]

    @property
    def frozen(self) -> dict[str, Variables]:
        """The frozen networks' variables as they are read."""
        return self._initial[1]

    @functools.cached_property
    def frozen_in_step(self) -> dict[str, Variables]:
        """The frozen networks' variables as the step takes them (`networks.for_inference`)."""

        def convert(name: str, variables: Variables) -> Variables:
            return jax.eval_shape(lambda x: networks.for_inference(self.networks[name], x, self.batch), variables)

        return {name: convert(name, variables) for name, variables in self.frozen.items()}

    @functools.cached_property
    def variables(self) -> dict[str, Variables]:
        """The variables of each network that has any, by network."""
        merged = core.merge_variables(self.state.params, self.state.variables, self.frozen)
        return {name: merged[name] for name in self.networks if name in merged}

    @functools.cached_property
    def outputs(self) -> Mapping[str, Output]:
        """The output of each network for a batch.

        Raises:
            UserError: if a network cannot be run on the data.
        """
        try:
            return init_shapes(self.networks, {}, self.tx, self.batch)[2]
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"stage {self.stage!r}: its networks cannot be run on its data: {reason}") from error

    def num_classes(self, network: str) -> int:
        """Returns the number of classes, or of tokens of a vocabulary, that a network predicts."""
        return core.num_classes(self.outputs[network].logits)

    def num_axes(self, network: str) -> int:
        """Returns the number of axes of a network's predictions: 1 for one of each example, 2 for one of each token."""
        return len(core.prediction_shape(self.outputs[network].logits))

    @functools.cached_property
    def partitions(self) -> tuple[Partition, Partition]:
        """The partitions of the state and of `{"frozen": ...}`.

        Raises:
            UserError: for a dimension that its axis cannot divide.
        """
        return self.partitioner.partition(self.state), self.partitioner.partition({"frozen": self.frozen})

    @property
    def shardings(self) -> tuple[State, dict[str, Variables]]:
        """The shardings of `state` and `frozen`."""
        state, frozen = self.partitions
        return state.shardings, frozen.shardings["frozen"]


def make_partitioner(
    mesh: Mesh, sharding: tuple[Any, ...], sources: Mapping[str, Source], configs: Mapping[str, NetworkConfig]
) -> Partitioner:
    """Returns the partitioner of a stage.

    Args:
        mesh: the devices.
        sharding: the stage's rules.
        sources: the networks.
        configs: their settings, which may have rules of their own.
    """
    rules = {}
    for name, source in sources.items():
        network_sharding = configs[name].sharding if name in configs else ()
        axes = tuple(getattr(getattr(source, "module", None), "axes", ()))
        leader = source.of if isinstance(source, networks.Follows) else ""
        parsed = Rules.parse(network_sharding, f"networks.{name}.sharding") if network_sharding else None
        rules[name] = NetworkRules(parsed, axes, leader, getattr(source, "offload", False))
    return Partitioner(mesh, Rules.parse(sharding), rules)
