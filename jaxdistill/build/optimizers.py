"""The optimizers of a stage, from its settings and those of its networks."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxdistill.build import validate
from jaxdistill.config.schema import StageSettings
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.networks import Source
from jaxdistill.train import optim
from jaxdistill.train.units import Unit, group_networks, group_terms


def freeze_rest(settings: Any, sources: Mapping[str, Source]) -> Any:
    """Returns settings whose optimizer leaves all of a network but what its key `train` matches."""
    learning = validate.learning_parts(settings, sources)
    shared = {name: x for name, x in learning.items() if settings.networks[name].options.get("optimizer") is None}
    return dataclasses.replace(settings, optimizer=optim.freeze_rest(settings.optimizer, shared))


def build_units(
    stage: str, settings: Any, sources: Mapping[str, Source], terms: Mapping[str, Term]
) -> tuple[Unit, ...]:
    """Returns the units of a stage that trains, each with its own optimizer and learning rate or the stage's.

    Args:
        stage: its name, for messages.
        settings: its own.
        sources: networks by name.
        terms: by name.

    Raises:
        UserError: for two networks of one unit that both set one, and for values that Optax does not accept.
    """
    groups = group_networks(sources)
    if not groups or not {term.student for term in terms.values()} <= {*sources}:
        return ()  # `validate.check_training` and `step.check_terms` describe what is missing
    rate = optim.schedule(settings.learning_rate, settings.steps, f"stage {stage!r}: learning_rate")
    units = []
    for networks, taught_by in zip(groups, group_terms(sources, terms, groups), strict=True):
        (owner, spec), (rate_owner, own_rate) = (
            _find_own(settings, networks, k) for k in ("optimizer", "learning_rate")
        )
        path = f"networks.{owner}.optimizer" if owner else f"stage {stage!r}: optimizer"
        if rate_owner:
            own_rate = optim.schedule(own_rate, settings.steps, f"networks.{rate_owner}.learning_rate")
        learning = validate.learning_parts(settings, {name: sources[name] for name in networks})
        spec = optim.freeze_rest(spec, learning) if spec else settings.optimizer
        unit_rate = own_rate or rate
        unit = Unit(
            networks=networks,
            terms=taught_by,
            spec=spec,
            rate=unit_rate,
            group_rates=optim.make_group_rates(spec, unit_rate, settings.steps, path),
            has_own_optimizer=bool(owner),
            has_own_rate=bool(rate_owner),
        )
        unit.make()
        units.append(unit)
    return tuple(units)


def _find_own(settings: StageSettings, networks: tuple[str, ...], key: str) -> tuple[str, Any]:
    """Returns the network of a unit that sets a key, and its value; ("", None) if none does."""
    values = {name: settings.networks[name].options.get(key) for name in networks}
    owners = [name for name, value in values.items() if value is not None]
    if len(owners) > 1:
        raise UserError(
            f"networks.{owners[1]}.{key} must be absent beside networks.{owners[0]}.{key}, got both: one optimizer"
            " updates networks that need each other. Remove one"
        )
    return (owners[0], values[owners[0]]) if owners else ("", None)


def check_sweep(stage: str, swept: Iterable[str], units: Sequence[Unit]) -> None:
    """Raises `UserError` if lanes differ in a learning rate or optimizer of the stage that no network uses.

    Args:
        stage: its name, for messages.
        swept: the dotted names of the swept settings.
        units: of the stage.
    """
    owned = {
        "learning_rate": all(unit.has_own_rate for unit in units),
        "optimizer": all(unit.has_own_optimizer for unit in units),
    }
    for name in swept:
        section = name.partition(".")[0]
        if owned.get(section, False):
            raise UserError(
                f"stage {stage!r}: sweep.{name} must be used by a network, got {[unit.name for unit in units]}, all of"
                f" which set their own. Remove networks.NAME.{section} of one"
            )
