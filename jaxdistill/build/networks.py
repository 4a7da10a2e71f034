"""Networks of a stage from its config."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxdistill.config import registry, toposort
from jaxdistill.data.output_cache import Cache
from jaxdistill.errors import UserError, check_kind
from jaxdistill.networks import Context, ImageSpec, Source, in_order
from jaxdistill.networks.options import references
from jaxdistill.tasks import Task

ENTRY_KEYS = ("source", "weights", "sharding")
"""Keys of an entry that do not belong to its source."""


def make_context(task: Task, trained_on: Mapping[str, ImageSpec], caches: Mapping[str, Cache]) -> Context:
    """Returns the data of a stage, as far as its networks are built for it.

    Args:
        task: of the stage.
        trained_on: images that networks with weights were trained on, by name.
        caches: of the cached networks, by name.
    """

    def check_model(network: str, model: str, module: nn.Module) -> None:
        task.check_model(
            network, model, module, {name: registry.find("model", name) for name in registry.names("model")}
        )

    return Context(
        classes=task.num_classes,
        images=task.image_spec,
        dataset=task.dataset.name,
        input=task.inputs[0],
        vocabulary=task.dataset.vocabulary,
        trained_on=trained_on,
        check_model=check_model,
        cached_classes={name: cache.header.classes for name, cache in caches.items()},
    )


def build_networks(entries: Mapping[str, Mapping[str, Any]], context: Context) -> dict[str, Source]:
    """Makes the sources of a stage, each after those it needs.

    Args:
        entries: raw entries of the config, by name.
        context: the data of the stage.

    Raises:
        UserError: for a source, a model or a key that does not exist, and a value that is out of bounds.
    """
    if not entries:
        raise UserError("networks must have an entry. Add networks.student=dict(source='trained', model=...)")
    kinds = {name: _find_source(name, entry) for name, entry in entries.items()}
    options = {name: {k: v for k, v in entry.items() if k not in ENTRY_KEYS} for name, entry in entries.items()}
    needs = {name: references(kinds[name], options[name], f"networks.{name}") for name in entries}
    built = {}
    for name in toposort.in_order("network", needs):
        built[name] = kinds[name].build(name, options[name], context)
        try:
            built[name].check()
        except UserError as error:
            raise UserError(f"networks.{name}.{error}") from error
    return in_order(built)


def _find_source(name: str, entry: Mapping[str, Any]) -> type[Source]:
    """Returns the class of an entry's source, after a check of the keys that every entry has."""
    path = f"networks.{name}"
    check_kind(path, entry, {})
    weights = entry.get("weights", "")
    if weights is not None:
        check_kind(f"{path}.weights", weights, "")
    check_kind(f"{path}.sharding", entry.get("sharding", ()), ())
    kind = registry.find("network", entry.get("source", "trained"), f"{path}.source")
    if kind.needs_weights and not weights:
        raise UserError(
            f"{path}.weights must be set for a frozen network, whose outputs would be random. Set weights='stage:NAME',"
            " or the folder of a stage of another run"
        )
    return kind
