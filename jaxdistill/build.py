"""From a stage of a config to what it names: data, networks, terms, optimizer. Nothing is computed here but shapes
and the statistics of the training split, and whatever can be wrong with a config is found here."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill import cast, checks, registry
from jaxdistill import config as configs
from jaxdistill.data import augment, loader, sources
from jaxdistill.durations import settings_in_steps
from jaxdistill.errors import UserError
from jaxdistill.stage import Stage, is_resident
from jaxdistill.train import optim, sharding


def complete(config) -> None:
    """Adds to a locked ConfigDict the fields of the methods, models and optimizers it names, for flags to set.

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
        if "optimizer" in section:
            if not hasattr(section.optimizer, "items"):
                raise UserError(f"optimizer={section.optimizer!r} is no section, like dict(name='sgd', momentum=0.9)")
            _add(section.optimizer, optim.fields(section.optimizer.get("name")))


def _settings(kind: str, member: type) -> dict[str, Any]:
    """What an entry says beside the fields of its model or method."""
    if kind == "model":
        return {"dtype": "float32", "weights": ""}
    return {"student": "student", "teacher": "teacher" if member.needs_teacher else "", "weight": 1.0}


def _add(entry, known: Mapping[str, Any]) -> None:
    with entry.unlocked():
        for name, value in known.items():
            if name not in entry and value is not None:
                entry[name] = value


def stage(name: str, settings: Mapping[str, Any]) -> Stage:
    """Builds one stage.

    Raises:
        UserError: for anything named that is not there and anything set that makes no sense.
    """
    settings = dict(settings)
    mesh = sharding.make_mesh(settings["mesh"])
    processes = jax.process_count()
    dataset = opened(settings["data"])
    settings = settings_in_steps(settings, len(dataset.split("train")) / settings["batch"], settings["batch"])
    sharding.check_batch(mesh, settings["batch"], settings["accumulate"], processes)
    sharding.check_rules(settings["sharding"])
    mean, std = _statistics(_key(settings["data"]))
    made = cast.networks(settings["networks"], dataset.classes)
    trains = settings["kind"] == "train"
    specs = settings["terms"] if trains else {}
    terms = {n: cast.term(n, spec, settings["steps"], made) for n, spec in specs.items()}
    if trains:
        checks.training(name, settings, made, terms)
    rate = optim.schedule(settings["rate"], settings["steps"])
    seed, data = settings["seed"], settings["data"]
    built = Stage(
        name=name,
        settings=settings,
        dataset=dataset,
        networks=made,
        terms=terms,
        tx=optim.optimizer(settings["optimizer"], rate),
        rate=rate,
        augment=augment.build(
            data["augment"], seed=seed, classes=dataset.classes, mean=mean, std=std, views=data["views"]
        ),
        prepare=augment.plain(mean, std),
        mesh=mesh,
        part=loader.Part(jax.process_index(), processes),
    )
    if settings["kind"] == "components" and not built.fitted:
        raise UserError(f"stage {name!r} fits nothing; it needs a network dict(source='exit', head='components', ...)")
    checks.built(built)
    return built


def opened(data: Mapping[str, Any]) -> sources.Dataset:
    """Opens the dataset of a `data` section; stages of a pipeline share what is decoded."""
    if not data["name"]:
        raise UserError(f"no dataset is named; set data.name to one of {[*sources.EMBEDDED]} or a name of TFDS")
    return _opened(_key(data))


def _key(data: Mapping[str, Any]) -> str:
    shared = ("name", "data_dir", "path", "splits", "size", "resident", "statistics")
    return json.dumps({key: data[key] for key in shared}, sort_keys=True)


@functools.lru_cache(maxsize=4)
def _opened(key: str) -> sources.Dataset:
    data = json.loads(key)
    splits = data["splits"] if any(data["splits"].values()) else None
    dataset = sources.load(data["name"], data_dir=data["data_dir"], path=data["path"], splits=splits, size=data["size"])
    dataset.split("train")
    if not is_resident(data, dataset):
        return dataset
    held = {}
    for role, split in dataset.splits.items():
        held[role] = split if isinstance(split, sources.Arrays) else sources.Arrays(**split.take(np.arange(len(split))))
        loader.check_labels(held[role].label, dataset.classes, f"the {role} split of {data['name']}")
    return dataclasses.replace(dataset, splits=held)


@functools.lru_cache(maxsize=4)
def _statistics(key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return loader.statistics(_opened(key).split("train"), json.loads(key)["statistics"])
