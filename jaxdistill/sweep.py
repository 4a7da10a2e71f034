"""`sweep`: what the lanes of a stage differ in, as lists in the shape of the config.

    sweep = dict(seed=(0, 1, 2, 3), data=dict(partition=dict(part=(0, 1, 2, 3))))

are four lanes, one for each place of the lists: each is the run that its own settings would be.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError, unknown

SWEPT = ("seed", "data.partition.part")
"""What lanes may differ in."""


def lanes(stage: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the settings of every lane of a stage; none where nothing is swept.

    Raises:
        UserError: for lists of different lengths, and what lanes cannot differ in.
    """
    lists = dict(leaves(settings["sweep"]))
    for name, values in lists.items():
        if name not in SWEPT:
            raise unknown(f"setting of stage {stage!r} that can be swept:", name, SWEPT)
        if not isinstance(values, (tuple, list)) or not all(type(value) is int for value in values):
            raise UserError(f"stage {stage!r}: sweep.{name}={values!r} is no list of whole numbers, one for each lane")
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise UserError(f"stage {stage!r}: sweep has lists of {lengths} values; all have one for each lane")
    if lists and settings["kind"] != "train":
        raise UserError(f"stage {stage!r} of kind {settings['kind']!r} has a sweep; only training is done in lanes")
    return [_lane(settings, lists, number) for number in range(max(lengths.values(), default=0))]


def leaves(section: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what a `sweep` lists, by dotted name."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _lane(settings: Mapping[str, Any], lists: Mapping[str, Any], number: int) -> dict[str, Any]:
    own = copy.deepcopy(dict(settings)) | {"sweep": {}}
    for name, values in lists.items():
        section = own
        *above, last = name.split(".")
        for key in above:
            section = section[key]
        section[last] = values[number]
    return own
