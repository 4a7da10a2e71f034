"""Sweeps: the values by which the lanes of a stage differ, and the settings of each lane."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jaxdistill.config import registry
from jaxdistill.config.parse import check, join, option, parse, parse_section, plain
from jaxdistill.errors import UserError, unknown

if TYPE_CHECKING:
    from jaxdistill.config.schema import StageSettings

WHOLE = ("seed", "data.partition.part")
NUMBERS = ("learning_rate", "optimizer", "terms")
"""Settings that lanes may differ in: these whole numbers, and the numbers of these sections."""

FORMS = ("auto", "vmap", "unroll")


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """The values of lanes; `values` has a tuple for each dotted key, one value for each lane or axis of a grid."""

    grid: bool = option(False, "whether there is a lane for each combination of values")
    form: str = option("auto", "computation of lanes", choices=FORMS)
    values: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    OPEN = "values"

    @classmethod
    def parse(cls, raw: Any, path: str) -> "SweepConfig":
        """Returns a sweep from nested sections of tuples.

        Raises:
            UserError: for settings that lanes cannot differ in, and tuples of different lengths without `grid`.
        """
        check(isinstance(raw, Mapping), path, "a section such as dict(seed=(0, 1))", raw)
        section = {key: raw[key] for key in ("grid", "form") if key in raw}
        swept = {key: value for key, value in raw.items() if key not in section}
        values = {name: _parse_values(name, value, path) for name, value in _flatten(swept)}
        config = dataclasses.replace(parse_section(cls, section, path), values=values)
        lengths = {name: len(items) for name, items in values.items()}
        if 0 in lengths.values() or (len({*lengths.values()}) > 1 and not config.grid):
            raise UserError(
                f"{path} must have tuples of one length, a value for each lane, got {lengths}. Set {path}.grid=True for"
                " all combinations of values"
            )
        return config

    def plain(self) -> dict[str, Any]:
        """Returns the nested sections that `parse` reads."""
        nested: dict[str, Any] = {}
        for name, items in self.values.items():
            *sections, key = name.split(".")
            section = nested
            for section_key in sections:
                section = section.setdefault(section_key, {})
            section[key] = plain(items)
        defaults = SweepConfig()
        return nested | {key: x for key in ("grid", "form") if (x := getattr(self, key)) != getattr(defaults, key)}

    def lanes(self) -> list[dict[str, float]]:
        """Returns the values of each lane by dotted key, such as `{"seed": 1, "learning_rate.to": 0.1}`."""
        columns = self.values.values()
        rows = itertools.product(*columns) if self.grid else zip(*columns, strict=True)
        return [dict(zip(self.values, row, strict=True)) for row in rows if row]


def _flatten(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the entries of nested sections by dotted key."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parse_values(name: str, raw: Any, path: str) -> tuple[float, ...]:
    kinds = (int,) if name in WHOLE else (int, float) if name.split(".")[0] in NUMBERS else ()
    if not kinds:
        raise unknown(join(path, name), name, [*WHOLE, *NUMBERS], "a setting that lanes may differ in")
    values = parse(Any, raw, path)
    holds = isinstance(values, tuple | list) and all(type(value) in kinds for value in values)
    noun = "whole numbers" if name in WHOLE else "numbers"
    check(holds, join(path, name), f"a tuple of {noun}, one for each lane", values)
    return tuple(values)


def lane_settings(stage: str, settings: "StageSettings") -> list["StageSettings"]:
    """Returns the settings of every lane of a stage; none if nothing is swept.

    Args:
        stage: its name, for messages.
        settings: its settings.

    Raises:
        UserError: if the kind of stage has no lanes of its own, and for settings that the stage does not have.
    """
    kind, swept = registry.find("kind", settings.kind), settings.sweep.lanes()
    if kind.inherits_lanes:
        return []
    if swept and not kind.trains:
        raise UserError(
            f"stages.{stage}.sweep must be empty for a stage of kind {settings.kind!r}, which does not train, got"
            f" {settings.sweep.plain()}. Set it to {{}}, or sweep the stages that train"
        )
    return [_lane(stage, settings, values) for values in swept]


def count_lanes(
    stage: str, settings: "StageSettings", lanes: int, origin_lanes: Mapping[str, int]
) -> tuple[int, list[str]]:
    """Returns the number of lanes of a stage, and the networks that start each lane from the lane of its number.

    Args:
        stage: its name, for messages.
        settings: its settings.
        lanes: the number of lanes of its own sweep.
        origin_lanes: numbers of lanes of the weights that networks start from, by network; 0 for none.

    Raises:
        UserError: if a stage that inherits its lanes reads networks of different numbers of lanes.
    """
    counts = {name: count for name, count in origin_lanes.items() if count}
    if registry.find("kind", settings.kind).inherits_lanes and counts:
        if len({*counts.values()}) > 1:
            raise UserError(
                f"stages.{stage}.networks must have one number of lanes, got {counts}. Name one lane of each, as in"
                " weights='stage:NAME@0', or evaluate the networks of one number"
            )
        lanes = max(counts.values())
    return lanes, [name for name, count in counts.items() if count == lanes]


def _lane(stage: str, settings: "StageSettings", values: Mapping[str, float]) -> "StageSettings":
    keys = plain(dataclasses.replace(settings, sweep=SweepConfig()))
    for name, value in values.items():
        section = keys
        *sections, last = name.split(".")
        for depth, key in enumerate(sections):
            if not isinstance(section.get(key), dict):
                raise UserError(
                    f"stages.{stage}.sweep.{name} must be a setting of the stage, got no section"
                    f" {'.'.join(sections[: depth + 1])!r}. Set stages.NAME.sweep.{name} for the stages that have it,"
                    " and give stages that start from these a sweep of as many lanes, such as the same seed in all of"
                    " them"
                )
            section = section[key]
        section[last] = value
    return parse_section(type(settings), keys, f"stages.{stage}")
