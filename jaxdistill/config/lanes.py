"""Lanes of a stage: the settings of each, and the networks that start lane by lane."""

import dataclasses
from collections.abc import Mapping

from jaxdistill.config import registry
from jaxdistill.config.parse import parse_section, plain
from jaxdistill.config.schema import StageSettings
from jaxdistill.config.sweep import SweepConfig
from jaxdistill.errors import UserError


def lane_settings(stage: str, settings: StageSettings) -> list[StageSettings]:
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
    stage: str, settings: StageSettings, lanes: int, origin_lanes: Mapping[str, int]
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


def _lane(stage: str, settings: StageSettings, values: Mapping[str, float]) -> StageSettings:
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
