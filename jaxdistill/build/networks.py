"""Networks of a stage from its config."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np

from jaxdistill.config import registry, toposort
from jaxdistill.config.members import NetworkConfig
from jaxdistill.data.cache_records import DTYPES
from jaxdistill.data.output_cache import Cache, Header
from jaxdistill.errors import UserError, check_names
from jaxdistill.networks import Context, ImageSpec, Source, in_order
from jaxdistill.networks.meaning import Meaning, own_names
from jaxdistill.networks.options import reference_fields, references
from jaxdistill.networks.source import CachedForm
from jaxdistill.tasks import Task


def make_context(
    task: Task,
    trained_on: Mapping[str, ImageSpec],
    caches: Mapping[str, Cache],
    stored_meanings: Mapping[str, Meaning] | None = None,
) -> Context:
    """Returns the data of a stage, as far as its networks are built for it.

    Args:
        task: of the stage.
        trained_on: images that networks with weights were trained on, by name.
        caches: of the cached networks, by name.
        stored_meanings: classes, tokenizers and transforms of networks with weights, by name.
    """
    names, dataset = data_class_names(task), task.dataset
    featurizer = dataset.featurizer.digest() if dataset.featurizer else ""
    meanings = {task.inputs[0]: Meaning(names, dataset.tokenizer, featurizer, dataset.target_units)}
    meanings |= {"teacher_tokens": Meaning(names, dataset.teacher_tokenizer, targets=dataset.target_units)}

    def check_model(network: str, model: str, module: nn.Module, field: str) -> None:
        models = {name: registry.find("model", name) for name in registry.names("model")}
        task.check_model(network, model, module, field=field, models=models)

    return Context(
        classes=task.num_classes,
        images=task.image_spec,
        dataset=task.dataset.name,
        input=task.inputs[0],
        vocabulary=task.dataset.vocabulary,
        trained_on=trained_on,
        meanings=meanings,
        stored_meanings=stored_meanings or {},
        check_model=check_model,
        keeps_size=task.keeps_size,
        token_map=() if task.dataset.token_map is None else tuple(task.dataset.token_map.tolist()),
        routes=task.dataset.routes,
        cached={name: _describe_cached(cache.header) for name, cache in caches.items()},
    )


def _describe_cached(header: Header) -> CachedForm:
    shared = {
        name: jax.ShapeDtypeStruct(shape, np.dtype(DTYPES[dtype])) for name, (shape, dtype) in header.shared.items()
    }
    return CachedForm(header.classes, shared)


def data_class_names(task: Task) -> tuple[str, ...]:
    """Returns the names of the classes that networks predict; none if they are numbers or tokens."""
    return own_names(task.dataset.class_names) if task.reads_class_labels else ()


def build_networks(configs: Mapping[str, NetworkConfig], context: Context) -> dict[str, Source]:
    """Makes the sources of a stage, each after those it needs.

    Args:
        configs: settings by name.
        context: the data of the stage.

    Raises:
        UserError: for a network that does not exist, and a value that a source refuses.
    """
    if not configs:
        raise UserError("networks must have an entry. Add networks.student=dict(source='trained', model=...)")
    kinds = {name: _find_source(name, config) for name, config in configs.items()}
    needs = {name: references(kinds[name], config.options, f"networks.{name}") for name, config in configs.items()}
    for name, config in configs.items():
        for key in reference_fields(kinds[name]):
            value = config.options[key]
            check_names(f"networks.{name}.{key}", [value] if isinstance(value, str) else value, configs)
    built = {}
    for name in toposort.in_order("network", needs):
        built[name] = kinds[name].build(name, configs[name].options, context)
        try:
            built[name].check()
        except UserError as error:
            raise UserError(f"networks.{name}.{error}") from error
    return in_order(built)


def _find_source(name: str, config: NetworkConfig) -> type[Source]:
    """Returns the class of a source, after a check that it has weights if it needs them."""
    kind = registry.find("network", config.source, f"networks.{name}.source")
    if kind.needs_weights and not config.weights:
        raise UserError(
            f"networks.{name}.weights must be set for a frozen network, whose outputs would be random. Set"
            " weights='stage:NAME', or the folder of a stage of another run"
        )
    return kind
