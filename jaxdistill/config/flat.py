"""Resolved configs as flat mappings, and the settings in which several of them differ."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxdistill.config.durations import Duration
from jaxdistill.config.load import ABSENT, show, stages
from jaxdistill.config.parse import entries, free_keys
from jaxdistill.errors import UserError

Settings = dict[tuple[str, str], str]
"""Values as text, by stage and path: `("distil", "terms.kd.temperature")`."""


def flatten(config: Mapping[str, Any]) -> Settings:
    """Returns the settings of a resolved config, without those that are declared `free`.

    A config that cannot be read, such as one with members of a module that is absent, is taken as it is written.
    """
    try:
        sections: Mapping[str, Any] = stages(config)
    except UserError:
        sections = config.get("stages", {})
    return {(name, path): value for name, section in sections.items() for path, value in _leaves(section, "")}


def _leaves(item: Any, path: str) -> Iterator[tuple[str, str]]:
    item = item.plain() if hasattr(item, "plain") else item
    if dataclasses.is_dataclass(item) and not isinstance(item, Duration):
        free = free_keys(item)
        item = {key: value for key, value in entries(item).items() if key not in free}
    if isinstance(item, Mapping) and item:
        for key, value in item.items():
            yield from _leaves(value, f"{path}.{key}".removeprefix("."))
    else:
        yield path, show(item)


def is_seed(path: str) -> bool:
    """Whether a setting is a seed, in which repetitions of one experiment differ."""
    return path.rpartition(".")[2] == "seed"


def list_differences(settings: Sequence[Settings]) -> list[tuple[str, tuple[str, ...]]]:
    """Lists the settings in which configs differ, with the value of each config.

    A setting that differs alike in several stages is one entry, without their names. A stage that a config lacks is
    one entry.
    """
    names = [dict.fromkeys(stage for stage, _ in config) for config in settings]
    every = dict.fromkeys(stage for stages_of_config in names for stage in stages_of_config)
    absent = {stage for stage in every if not all(stage in stages_of_config for stages_of_config in names)}
    lacking = [
        (f"stages.{stage}", tuple("(a section)" if stage in present else ABSENT for present in names))
        for stage in every
        if stage in absent
    ]
    by_entry: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for stage, path in dict.fromkeys(key for config in settings for key in config):
        values = tuple(config.get((stage, path), ABSENT) for config in settings)
        if stage not in absent and len({*values}) > 1:
            by_entry.setdefault((path, values), []).append(stage)
    return lacking + [
        (path if len(where) > 1 else f"stages.{where[0]}.{path}", values) for (path, values), where in by_entry.items()
    ]
