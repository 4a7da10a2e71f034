"""From a stage of a config to what it names: data, networks, terms, optimizer. Nothing is computed here but shapes
and the statistics of the training split, and whatever can be wrong with a config is found here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from jaxdistill import tasks
from jaxdistill.build import networks, validate
from jaxdistill.build.stage import Stage
from jaxdistill.config import load as configs
from jaxdistill.config import registry, schema, sweep
from jaxdistill.config.defaults import MEMBER, NETWORK
from jaxdistill.config.durations import settings_in_steps
from jaxdistill.data import loader
from jaxdistill.data.build import opened, training
from jaxdistill.data.output_cache import Cache
from jaxdistill.errors import UserError
from jaxdistill.networks import ImageSpec
from jaxdistill.runtime import compilation_cache
from jaxdistill.train import mesh as sharding
from jaxdistill.train import optim


def complete(config) -> None:
    """Adds to a locked ConfigDict the fields of the methods, models, optimizers and sets it names, for flags to set.

    In a stage only where it names another than it inherits: what it inherits must not be overwritten by defaults.
    """
    for section in [config, *config.stages.values()]:
        for key, kind in (("networks", "model"), ("terms", "method")):
            for name, entry in section.get(key, {}).items():
                if not hasattr(entry, "items"):
                    raise UserError(f"{key} are named sections like {key}.student=dict({kind}=...); got {entry!r}")
                above = {} if section is config else config[key].get(entry.get("like", name), {})
                if kind in entry and (section is config or configs.replaces(entry, above)):
                    member = registry.find(kind, entry[kind])
                    _add(entry, registry.fields(member) | _settings(kind, member))
        if not hasattr(section.get("data", {}).get("mix", {}), "items"):
            raise UserError(f"data.mix={section.data.mix!r} is no section, like dict(noise=dict(name='noise'))")
        for name, entry in section.get("data", {}).get("mix", {}).items():
            if hasattr(entry, "items") and (section is config or name not in config.data.mix):
                _add(entry, MEMBER)
        if "optimizer" in section:
            if not hasattr(section.optimizer, "items"):
                raise UserError(f"optimizer={section.optimizer!r} is no section, like dict(name='sgd', momentum=0.9)")
            _add(section.optimizer, optim.fields(section.optimizer.get("name")))


def _settings(kind: str, member: type) -> dict[str, Any]:
    """What an entry says beside the fields of its model or method."""
    if kind == "model":
        return dict(NETWORK)
    return {"student": "student", "teacher": "teacher" if member.needs_teacher else "", "weight": 1.0}


def _add(entry, known: Mapping[str, Any]) -> None:
    with entry.unlocked():
        for name, value in known.items():
            if name not in entry and value is not None:
                entry[name] = value
            elif isinstance(value, Mapping) and hasattr(entry[name], "items"):
                _add(entry[name], value)


def stage(name: str, settings: Mapping[str, Any], *known: Any, started: Mapping[str, int] | None = None) -> Stage:
    """Builds one stage, with its lanes where it has some; the arguments are those of `single` and `sweep.in_step`."""
    swept = sweep.lanes(name, settings)
    lanes, paired = sweep.in_step(name, settings, len(swept), started or {})
    if not lanes:
        return single(name, settings, *known)
    for lane in swept:
        configs.check_settings(name, lane)
    each = tuple(single(name, lane, *known) for lane in swept) or (single(name, settings, *known),) * lanes
    whole = dataclasses.replace(each[0].settings, sweep=settings["sweep"])
    built = dataclasses.replace(each[0], settings=whole, lanes=each, paired=tuple(paired))
    if swept:
        validate.check_lanes(built)
    return built


def single(
    name: str,
    settings: Mapping[str, Any],
    made_for: Mapping[str, ImageSpec] | None = None,
    caches: Mapping[str, Cache] | None = None,
) -> Stage:
    """Builds one stage without lanes.

    Args:
        made_for: the images that networks with weights were trained on, by name.
        caches: what cached networks read, by name; it need not be written yet.

    Raises:
        UserError: for anything named that is not there and anything set that makes no sense.
    """
    settings = dict(settings)
    mesh = sharding.make_mesh(settings["mesh"])
    processes = jax.process_count()
    dataset = opened(settings["data"])
    kind = registry.find("kind", settings["kind"])()
    train = training(settings["data"], dataset) if kind.selects_examples else dataset.split("train")
    settings = settings_in_steps(settings, len(train) / settings["batch"], settings["batch"])
    settings = schema.parse(schema.StageSettings, settings, f"stages.{name}")
    if kind.trains:
        validate.check_length(name, settings.steps)
    sharding.check_batch(mesh, settings["batch"], settings["accumulate"], processes)
    compilation_cache.check_setting(settings["compilation_cache"])
    task = tasks.find(dataset, settings.task).make(dataset, settings.data)
    known = networks.Data.of(task, made_for or {}, caches or {})
    needs_networks = settings["networks"] or kind.needs_networks
    made = networks.networks(settings["networks"], known) if needs_networks else {}
    specs = settings["terms"] if kind.trains else {}
    terms = {n: networks.term(n, spec, settings["steps"], made) for n, spec in specs.items()}
    rate = optim.schedule(settings["rate"], settings["steps"])
    built = Stage(
        name=name,
        kind=kind,
        settings=settings,
        dataset=dataset,
        train=train,
        task=task,
        networks=made,
        terms=terms,
        tx=optim.optimizer(settings["optimizer"], rate),
        rate=rate,
        mesh=mesh,
        part=loader.Part(jax.process_index(), processes),
        caches=caches or {},
    )
    kind.check(built)
    return built
