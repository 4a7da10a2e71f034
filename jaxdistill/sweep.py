"""`sweep`: what the lanes of a stage differ in, as lists in the shape of the config.

    sweep = dict(seed=(0, 1, 2, 3), terms=dict(kd=dict(temperature=(1.0, 2.0, 4.0, 8.0))))

are four lanes, one for each place of the lists: each is the run that its own settings would be. With `grid=True` there
is a lane for each combination, the last list's values changing fastest.
"""

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError, check_kind, unknown

WHOLE = ("seed", "data.partition.part")
NUMBERS = ("rate", "optimizer", "terms")
"""What lanes may differ in: these whole numbers, and any number of these sections that may be a fraction."""


def lanes(stage: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the settings of every lane of a stage; none where nothing is swept.

    Raises:
        UserError: for lists of different lengths, and what lanes cannot differ in.
    """
    section = dict(settings["sweep"])
    grid = section.pop("grid", False)
    check_kind(f"stage {stage!r}: sweep.grid", grid, False)
    lists = dict(leaves(section))
    for name, values in lists.items():
        _check(stage, name, values)
    lengths = {name: len(values) for name, values in lists.items()}
    if 0 in lengths.values() or (len(set(lengths.values())) > 1 and not grid):
        raise UserError(
            f"stage {stage!r}: sweep has lists of {lengths} values; all have one for each lane, or set sweep.grid=True"
        )
    if lists and settings["kind"] != "train":
        raise UserError(f"stage {stage!r} of kind {settings['kind']!r} has a sweep; only training is done in lanes")
    each = itertools.product(*lists.values()) if grid else zip(*lists.values(), strict=True)
    return [_lane(stage, settings, dict(zip(lists, values, strict=True))) for values in each if values]


def _check(stage: str, name: str, values: Any) -> None:
    kinds = (int,) if name in WHOLE else (int, float) if name.split(".")[0] in NUMBERS else ()
    if not kinds:
        raise unknown(f"setting of stage {stage!r} that can be swept:", name, [*WHOLE, *NUMBERS])
    if not isinstance(values, (tuple, list)) or not all(type(value) in kinds for value in values):
        what = "whole numbers" if name in WHOLE else "numbers"
        raise UserError(f"stage {stage!r}: sweep.{name}={values!r} is no list of {what}, one for each lane")


def leaves(section: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what a `sweep` lists, by dotted name."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _lane(stage: str, settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    own = copy.deepcopy(dict(settings)) | {"sweep": {}}
    for name, value in values.items():
        section = own
        *above, last = name.split(".")
        for depth, key in enumerate(above):
            if not isinstance(section.get(key), dict):
                raise unknown(f"section of stage {stage!r} to sweep in:", ".".join(above[: depth + 1]), section)
            section = section[key]
        section[last] = value
    return own
