"""`sweep`: what the lanes of a stage differ in, as lists in the shape of the config.

    sweep = dict(seed=(0, 1, 2, 3), terms=dict(kd=dict(temperature=(1.0, 2.0, 4.0, 8.0))))

are four lanes, one for each place of the lists: each is the run that its own settings would be. With `grid=True` there
is a lane for each combination, the last list's values changing fastest. `form` is how they are computed (`Lanes.form`).

A stage whose networks start from a stage of as many lanes takes each lane's from the lane of the same number. An
evaluation has the lanes of what it reads; its own or inherited `sweep` has no effect. A stage's `sweep`
stands in place of the top level's.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from jaxdistill.config import registry
from jaxdistill.config.parse import parse_section, plain
from jaxdistill.config.schema import StageSettings
from jaxdistill.errors import UserError, check_kind, check_names, unknown

WHOLE = ("seed", "data.partition.part")
NUMBERS = ("learning_rate", "optimizer", "terms")
"""What lanes may differ in: these whole numbers, and any number of these sections that may be a fraction."""

FORMS = ("auto", "vmap", "unroll")
OF_ALL = {"grid": False, "form": "auto"}
"""Keys of a `sweep` that are no list, with their defaults."""


def lanes(stage: str, settings: StageSettings) -> list[StageSettings]:
    """Returns the settings of every lane of a stage; none if nothing is swept.

    Raises:
        UserError: for lists of different lengths, and settings that lanes cannot differ in.
    """
    kind = registry.find("kind", settings.kind)
    if kind.inherits_lanes:
        return []
    lists = dict(listed(settings.sweep))
    for name, values in lists.items():
        _check(stage, name, values)
    for key, default in OF_ALL.items():
        check_kind(f"stage {stage!r}: sweep.{key}", settings.sweep.get(key, default), default)
    check_names(f"form of lanes for stage {stage!r}, sweep.form", [settings.sweep.get("form", "auto")], FORMS)
    lengths = {name: len(values) for name, values in lists.items()}
    if 0 in lengths.values() or (len(set(lengths.values())) > 1 and not settings.sweep.get("grid", False)):
        raise UserError(
            f"stage {stage!r}: sweep has lists of {lengths} values; all have one for each lane, or set sweep.grid=True"
        )
    if lists and not kind.trains:
        raise UserError(
            f"stage {stage!r} of kind {settings.kind!r} has a sweep; only training is done in lanes. Set its"
            " sweep={}, or name the sweep in the stages that train"
        )
    return [_lane(stage, settings, values) for values in differences(settings.sweep)]


def differences(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the values of each lane of a `sweep`, by dotted name, such as `{"seed": 1, "rate.init_value": 0.1}`."""
    lists = dict(listed(section))
    is_grid = section.get("grid", False)
    combinations = itertools.product(*lists.values()) if is_grid else zip(*lists.values(), strict=True)
    return [dict(zip(lists, values, strict=True)) for values in combinations if values]


def in_step(stage: str, settings: StageSettings, lanes: int, started: Mapping[str, int]) -> tuple[int, list[str]]:
    """Finds which networks of a stage start each lane from that lane of another stage.

    Args:
        lanes: how many the stage has by its own sweep.
        started: in how many lanes the weights come, of the networks that start from weights and name no lane.

    Returns:
        How many lanes the stage has, an evaluation those of what it reads; and the networks.

    Raises:
        UserError: where an evaluation reads networks of different numbers of lanes.
    """
    counts = {name: count for name, count in started.items() if count}
    if registry.find("kind", settings.kind).inherits_lanes and counts:
        if len({*counts.values()}) > 1:
            raise UserError(
                f"stage {stage!r} evaluates networks of {counts} lanes, which are not in step; name one lane of each,"
                " as in weights='stage:NAME@0', or evaluate those of one number"
            )
        lanes = max(counts.values())
    return lanes, [name for name, count in counts.items() if count == lanes]


def _check(stage: str, name: str, values: Any) -> None:
    kinds = (int,) if name in WHOLE else (int, float) if name.split(".")[0] in NUMBERS else ()
    if not kinds:
        raise unknown(f"setting of stage {stage!r} that can be swept:", name, [*WHOLE, *NUMBERS])
    if not isinstance(values, (tuple, list)) or not all(type(value) in kinds for value in values):
        what = "whole numbers" if name in WHOLE else "numbers"
        raise UserError(f"stage {stage!r}: sweep.{name}={values!r} is no list of {what}, one for each lane")


def listed(section: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what a `sweep` lists, by dotted name."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from listed(value, f"{before}{key}.")
        elif before or key not in OF_ALL:
            yield f"{before}{key}", value


def _lane(stage: str, settings: StageSettings, values: Mapping[str, Any]) -> StageSettings:
    keys = plain(settings) | {"sweep": {}}
    for name, value in values.items():
        section = keys
        *above, last = name.split(".")
        for depth, key in enumerate(above):
            if not isinstance(section.get(key), dict):
                raise UserError(
                    f"stage {stage!r} has no {'.'.join(above[: depth + 1])!r} to sweep in; name the sweep in the stages"
                    f" that have it, stages.NAME.sweep.{name}, and give stages that start from these a sweep of as many"
                    " lanes, such as the same seed in all of them"
                )
            section = section[key]
        section[last] = value
    return parse_section(type(settings), keys, f"stages.{stage}")
