"""Sweeps: the values by which the lanes of a stage differ."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from jaxdistill.config.parse import check, join, option, parse, parse_section, plain
from jaxdistill.errors import UserError, unknown

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
