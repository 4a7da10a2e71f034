"""From a stage of a config to what it names: data, networks, terms, optimizer. Nothing is computed here but shapes
and the statistics of the training split, and whatever can be wrong with a config is found here."""

from collections.abc import Mapping
from typing import Any

from jaxdistill import tasks
from jaxdistill.build import lanes, validate
from jaxdistill.build.data import StageData
from jaxdistill.build.networks import build_networks, make_context
from jaxdistill.build.optimizers import build_units, freeze_rest
from jaxdistill.build.origins import Origin
from jaxdistill.build.stage import Stage
from jaxdistill.build.terms import build_term
from jaxdistill.config import registry
from jaxdistill.config.durations import in_steps
from jaxdistill.config.schema import StageSettings
from jaxdistill.core import Term
from jaxdistill.data import loader
from jaxdistill.data.build import open_dataset, training_split
from jaxdistill.data.output_cache import Cache
from jaxdistill.errors import UserError
from jaxdistill.networks import ImageSpec, Source
from jaxdistill.networks.meaning import Meaning
from jaxdistill.runtime import compilation_cache
from jaxdistill.runtime.onednn import setting as convolutions
from jaxdistill.train import mesh as sharding


def stage(
    name: str,
    settings: StageSettings,
    origins: Mapping[str, Origin] | None = None,
    caches: Mapping[str, Cache] | None = None,
) -> Stage:
    """Builds a stage, with its lanes if it has some.

    Args:
        name: of the stage.
        settings: its own, inherited ones written out.
        origins: the origins of the networks that start from weights.
        caches: the caches that networks read, which need not be written yet.

    Raises:
        UserError: for names that do not exist, and settings that contradict each other.
    """
    origins, caches = origins or {}, caches or {}
    specs = {network: origin.image_spec for network, origin in origins.items() if origin.image_spec}
    trained_in = {network: origin.metadata for network, origin in origins.items() if origin.ref.lane is None}
    meanings = {network: origin.meaning for network, origin in origins.items()}

    def build_single(single: StageSettings) -> Stage:
        return _single(name, single, specs, caches, meanings=meanings)

    return lanes.build(name, settings, trained_in, build_single)


def _single(
    name: str,
    settings: StageSettings,
    image_specs: Mapping[str, ImageSpec],
    caches: Mapping[str, Cache],
    *,
    meanings: Mapping[str, Meaning],
) -> Stage:
    """Builds a stage of a single run.

    Args:
        name: of the stage.
        settings: its own.
        image_specs: the images that networks with weights were trained on.
        caches: the caches that networks read.
        meanings: classes and tokenizers of networks with weights.
    """
    mesh = sharding.make_mesh(vars(settings.mesh))
    dataset = open_dataset(settings.data)
    kind = registry.find("kind", settings.kind)()
    train = training_split(settings.data, dataset) if kind.selects_examples else dataset.split("train")
    settings = in_steps(settings, len(train) / settings.batch, settings.batch)
    if kind.trains:
        validate.check_length(name, settings.steps)
    sharding.check_batch(mesh, settings.batch, settings.accumulate if kind.trains else 1)
    compilation_cache.check_setting(settings.compilation_cache)
    convolutions.check(settings.convolutions)
    task = tasks.find(dataset, settings.task).make(dataset, settings.data)
    context = make_context(task, image_specs, caches, meanings)
    needs_networks = settings.networks or kind.needs_networks
    sources = build_networks(settings.networks, context) if needs_networks else {}
    terms, units = {}, ()
    if kind.trains:
        terms = _build_terms(name, settings, sources)
        settings = freeze_rest(settings, sources)
        units = build_units(name, settings, sources, terms)
    data = StageData(
        settings=settings.data,
        dataset=dataset,
        train=train,
        task=task,
        batch_size=settings.batch,
        evaluation_batch_size=settings.evaluate.batch or settings.batch,
        seed=settings.data.seed if settings.data.seed >= 0 else settings.seed,
        process=loader.ProcessShard(sharding.process_blocks(mesh), sharding.num_blocks(mesh)),
        caches=caches,
    )
    built = Stage(
        name=name,
        kind=kind,
        settings=settings,
        data=data,
        networks=sources,
        terms=terms,
        units=units,
        mesh=mesh,
    )
    kind.check(built)
    return built


def _build_terms(name: str, settings: Any, sources: Mapping[str, Source]) -> dict[str, Term]:
    """Returns the terms of a stage that trains; messages name the stage."""
    try:
        return {key: build_term(key, config, settings.steps, sources) for key, config in settings.terms.items()}
    except UserError as error:
        raise UserError(f"stage {name!r}: {error}") from error
