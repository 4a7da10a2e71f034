"""Caches that the networks of a stage read: their place, the images they are for, and their teacher."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdistill import core, networks
from jaxdistill.build import weights
from jaxdistill.build.networks import data_class_names
from jaxdistill.build.stage import Stage
from jaxdistill.config import references
from jaxdistill.config.references import WeightsRef
from jaxdistill.data.output_cache import Cache, Header
from jaxdistill.errors import UserError
from jaxdistill.runtime import files


def find_caches(
    name: str, settings: Mapping[str, Any], stages: Mapping[str, Stage], workdir: pathlib.Path
) -> dict[str, Cache]:
    """Returns the caches that the networks of a stage read, by network.

    Args:
        name: the stage.
        settings: its settings.
        stages: the stages before it; their caches may not be written yet.
        workdir: the folder of the run.

    Raises:
        UserError: for a cache that does not exist.
    """
    for network, config in settings.networks.items():
        if config.options.get("cache") == "":
            raise UserError(f"stage {name!r}: network {network!r}, cache must be 'stage:NAME' or a folder, got ''")
    return {
        network: _find_cache(f"stage {name!r}: network {network!r}, cache", refs["cache"], stages, workdir)
        for network, refs in references.parse_networks(settings.networks).items()
        if "cache" in refs
    }


def _find_cache(path: str, ref: WeightsRef, stages: Mapping[str, Stage], workdir: pathlib.Path) -> Cache:
    if ref.folder is not None:
        if ref.folder.is_dir() and not (ref.folder / weights.DONE).exists():
            raise UserError(f"{path}='{ref}' is not finished; give the command that makes it again, it goes on")
        return Cache(ref.folder, Header.read(ref.folder))
    if ref.network or ref.lane is not None:
        stage = WeightsRef(stage=ref.stage)
        raise UserError(f"{path}='{ref}': a cache is of one network; write '{stage}'")
    source = stages[ref.stage]
    if not source.kind.stores_outputs:
        raise UserError(
            f"{path}='{ref}': that stage is of kind {source.settings.kind!r}; caches are made by stages of kind"
            " 'cache', 'sklearn' or another that stores outputs"
        )
    return Cache(workdir / source.name, source.kind.cache_header(source))


def check_teachers(stage: Stage, workdir: pathlib.Path) -> None:
    """Raises `UserError` if a cached network expects a teacher whose weights do not exist."""
    for name in stage.data.caches:
        teacher = stage.references[name].get("teacher")
        if teacher is not None and teacher.folder is not None:
            weights.find(teacher, name, workdir)


def describe_examples(stage: Stage, role: str, augmented: bool = True) -> dict[str, Any]:
    """Returns what determines the examples of a split that networks get, in plain words."""
    data, split = stage.settings.data, stage.data.base_split(role)
    spec = stage.data.task.image_spec
    names = data_class_names(stage.data.task)
    classes = {"classes": list(names)} if names else {}
    if spec is None:
        noun = "texts" if stage.data.dataset.featurizer is None else "rows"
        return {f"{role} split": f"{len(split)} {noun} of {data.name}, {stage.data.digest(role)}"} | classes
    description = classes | {
        f"{role} split": f"{len(split)} images of {data.name}, {stage.data.digest(role)}",
        "mean": [round(float(x), 6) for x in spec.mean],
        "std": [round(float(x), 6) for x in spec.std],
    }
    if role == "train":
        names = data.augment if augmented else ()
        description |= {"data.augment": list(names), "seed": stage.data.seed if names else "any"}
    return description


def check(stage: Stage) -> None:
    """Raises `UserError` if a stage would read outputs for other examples than it has, or forms that do not fit."""
    _check_uses_of_buckets(stage)
    check_lengths(stage)
    runs = stage.kind.inputs(stage)
    if needed := stage.evaluation.needed:
        runs.append((stage.settings.evaluate.split, False, [*networks.dependencies(stage.networks, needed)]))
    for name in stage.data.caches:
        for role, augmented, names in runs:
            if name in names:
                _check_examples(stage, name, role, augmented)


def check_lengths(stage: Stage) -> None:
    """Raises `UserError` if a cache has values of every token, and batches differ in length or in masks."""
    if stage.data.caches and stage.data.task.draws_masks:
        raise UserError(
            f"stage {stage.name!r}: networks {[*stage.data.caches]} must run in this stage, got caches. Words are"
            " hidden at random, others in each epoch"
        )
    for name, cache in stage.data.caches.items() if stage.settings.data.buckets else ():
        length = stage.data.dataset.shape
        of_tokens = [array for array, (shape, _) in cache.header.arrays.items() if shape[:1] == length]
        if of_tokens:
            raise UserError(
                f"stage {stage.name!r}: data.buckets must be () with network {name!r}, whose cache has {of_tokens} of"
                f" {length[0]} tokens. Remove it, or store logits of texts alone"
            )


def check_cycle(stage: Stage) -> None:
    """Raises `UserError` if a stage that trains would need more views than a cache has."""
    data = stage.settings.data
    for name, cache in stage.data.caches.items():
        views = cache.header.splits.get("train", (0, 1))[1]
        if data.augment and data.cycle > views:
            raise UserError(
                f"stage {stage.name!r}: data.cycle={data.cycle}, and network {name!r} is cached in views={views}; leave"
                " it out, and the existing views come again"
            )


def _check_examples(stage: Stage, name: str, role: str, augmented: bool) -> None:
    network, cache = f"stage {stage.name!r}: network {name!r}", stage.data.caches[name]
    header = cache.header
    if role not in header.splits:
        raise UserError(
            f"{network} needs outputs for the {role} split, and {cache.folder} has {[*header.splits]}; add it to"
            " cache.splits where the cache is made"
        )
    expected = describe_examples(stage, role, augmented)
    lines = files.diff_lines(expected, {key: value for key, value in header.view.items() if key in expected})
    if lines:
        raise UserError(
            f"{network} has a cache for other images than those of this stage in {cache.folder}; those here (-) and"
            " those of the cache (+):\n  " + "\n  ".join(lines) + "\nMake both stages agree, or cache it anew for these"
            " images, in another stage"
        )


def check_terms(stage: Stage) -> None:
    """Raises `UserError` if a term compares logits and a cached network lists some classes alone."""
    buckets = _networks_with_bucket(stage)
    for key, term in stage.terms.items():
        name = next((n for n in buckets if n in (term.student, term.teacher)), "")
        if name and not isinstance(stage.shapes.outputs[name].logits, getattr(term.method, "listed_forms", ())):
            raise UserError(
                f"stage {stage.name!r}: term {key!r} compares logits, and network {name!r} has some classes alone; set"
                " tail='uniform' for a top-k, or take method 'top_k', or 'random_sampling' for a cache of"
                " store='sampled'"
            )


def _check_uses_of_buckets(stage: Stage) -> None:
    """Checks that a network with a bucket is no part of an ensemble, and not measured."""
    buckets = _networks_with_bucket(stage)
    if not buckets:
        return
    used = [member for source in stage.networks.values() for member in source.needs] + stage.evaluation.needed
    for name in buckets:
        if name in used:
            raise UserError(
                f"stage {stage.name!r}: network {name!r} has its top-k classes and no logits, and is measured or"
                " part of another network; set tail='uniform' for that, or evaluate.reference to another network"
            )


def _networks_with_bucket(stage: Stage) -> list[str]:
    return [name for name in stage.data.caches if not core.lists_all_classes(stage.shapes.outputs[name].logits)]


def verify(stage: Stage, workdir: pathlib.Path) -> None:
    """Checks, before a stage runs, that its caches are unchanged and were made by the expected teacher.

    Raises:
        UserError: for a cache that was changed, is damaged, or was made by another teacher.
    """
    for name, cache in stage.data.caches.items():
        refs = stage.references[name]
        header = Header.read(cache.folder)
        Cache(cache.folder, dataclasses.replace(cache.header, teacher=header.teacher)).check()
        network = f"stage {stage.name!r}: network {name!r}"
        if refs["cache"].folder is not None and Cache(cache.folder, header).missing():
            raise UserError(f"{network}: the cache {cache.folder} is damaged; the command that made it mends it")
        if "teacher" in refs:
            _check_teacher(network, refs["teacher"], header, workdir)


def _check_teacher(network: str, expected: WeightsRef, header: Header, workdir: pathlib.Path) -> None:
    cached = header.teacher.get("cached", "")
    fingerprint = header.teacher.get(f"network {cached}", {}).get("weights")
    if not fingerprint:
        by = dict(header.teacher)
        raise UserError(f"{network}: its cache is not of one network with weights, but of {by}; leave out teacher")
    wanted = weights.find(expected, cached, workdir).fingerprint()
    if wanted != fingerprint:
        raise UserError(
            f"{network} was cached by another teacher; the digest of the weights '{expected}' (-) and of the cache's"
            f" (+):\n  - {wanted}\n  + {fingerprint}\nCache the teacher anew, or leave out teacher to take this one"
        )
