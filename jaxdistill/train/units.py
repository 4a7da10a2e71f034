"""Units of a stage: networks that one optimizer updates, with the terms that teach them.

Several students in one stage are units of their own. Each has its optimizer, its learning rate, the norm by which its
gradients are clipped and its best checkpoint, so that it ends as in a stage without the others, up to rounding. A
network whose weights only fit those of another, such as a head or an average of its weights, is in that network's unit.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import optax

from jaxdistill.config.members import OptimizerConfig
from jaxdistill.core import Schedule, Term
from jaxdistill.networks import Follows, Source, dependencies
from jaxdistill.train import optim


@dataclasses.dataclass(frozen=True)
class Unit:
    """Networks that one optimizer updates.

    Attributes:
        networks: their names, each after those it needs.
        terms: the names of the terms that teach them, which may have parameters.
        spec: the settings of the optimizer.
        rate: the learning rate by step.
        group_rates: those of the optimizer's groups.
        has_own_optimizer: whether `spec` is a network's own, not the stage's.
        has_own_rate: whether `rate` is a network's own, not the stage's.
    """

    networks: tuple[str, ...]
    terms: tuple[str, ...]
    spec: OptimizerConfig
    rate: Schedule
    group_rates: Mapping[str, Schedule]
    has_own_optimizer: bool = False
    has_own_rate: bool = False

    @property
    def name(self) -> str:
        """The name of its first network."""
        return self.networks[0]

    def select(self, trees: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the entries of its networks and terms."""
        return {name: tree for name, tree in trees.items() if name in (*self.networks, *self.terms)}

    def make(self, values: Mapping[str, jax.Array] | None = None) -> optax.GradientTransformation:
        """Makes its optimizer; `values` replace numbers of the settings (`optim.optimizer`)."""
        return optim.optimizer(self.spec, self.rate, self.group_rates, values)


def group_networks(networks: Mapping[str, Source]) -> list[tuple[str, ...]]:
    """Returns the networks of each unit: those that change in a step, joined to those of them that they need."""
    changing = [name for name, source in networks.items() if source.learns or isinstance(source, Follows)]
    groups: list[tuple[str, ...]] = []
    for name in changing:
        linked = {need for need in dependencies(networks, [name]) if need in changing}
        joined = [group for group in groups if linked & {*group}]
        first = groups.index(joined[0]) if joined else len(groups)
        groups = [group for group in groups if group not in joined]
        groups.insert(first, (*(member for group in joined for member in group), name))
    return groups


def group_terms(
    networks: Mapping[str, Source], terms: Mapping[str, Term], groups: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Returns the terms of each unit: those of its students. Of a student with parts in several, the first's."""
    owners = {}
    for name, term in terms.items():
        needed = [term.student, *dependencies(networks, [term.student])]
        owners[name] = next((group for need in needed for group in groups if need in group), groups[0])
    return [tuple(name for name, owner in owners.items() if owner == group) for group in groups]


def is_split(units: Sequence[Unit]) -> bool:
    """Whether units need optimizers of their own: their settings differ, or each clips by its own norm."""
    differ = any(unit.has_own_optimizer or unit.has_own_rate for unit in units)
    return len(units) > 1 and (differ or units[0].spec.clip > 0)


def combine(
    units: Sequence[Unit], make: Callable[[Unit], optax.GradientTransformation] = Unit.make
) -> optax.GradientTransformation:
    """Makes the optimizer of a stage; its state is `{unit: state}` if units have optimizers of their own."""
    if not is_split(units):
        return make(units[0])
    optimizers = {unit.name: make(unit) for unit in units}

    def init(params: Any) -> dict[str, Any]:
        return {unit.name: optimizers[unit.name].init(unit.select(params)) for unit in units}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, dict[str, Any]]:
        changed, states = {}, {}
        for unit in units:
            name, own_params = unit.name, None if params is None else unit.select(params)
            new, states[name] = optimizers[name].update(unit.select(updates), state[name], own_params)
            changed |= cast(dict[str, Any], new)
        return {name: changed[name] for name in updates}, states

    return optax.GradientTransformation(init, update)


def freezing(units: Sequence[Unit]) -> Callable[[Any], Any]:
    """Returns a function of the params that stops the gradient of frozen ones, so that none is computed."""
    stops = [(unit, optim.freezing(unit.spec)) for unit in units]

    def stop(params: Any) -> Any:
        stopped: dict[str, Any] = {}
        for unit, function in stops:
            stopped |= function(unit.select(params))
        return {name: stopped[name] for name in params}

    return stop


def count_learning(units: Sequence[Unit], params: Mapping[str, Any]) -> int:
    """Returns the number of parameters that are not frozen; `params` may be shapes."""
    return sum(optim.count_learning(unit.spec, unit.select(params)) for unit in units)


def learning_rates(units: Sequence[Unit]) -> dict[str, Schedule]:
    """Returns the learning rates for the log: the stage's, or the first unit's, as `rate`, others as `UNIT/rate`."""
    first = next((unit for unit in units if not unit.has_own_rate), units[0])
    others = {f"{unit.name}/rate": unit.rate for unit in units if unit.has_own_rate and unit is not first}
    return {"rate": first.rate} | others
