"""Durations of a config: steps, epochs, examples or a share of the run, made optimizer steps in one place."""

from collections.abc import Mapping
from typing import Any

from jaxdistill.errors import UserError, check_between, check_kind

UNITS = ("epochs", "examples", "share")
BARE = {"at", "over", "until", "every", "", "log_every"}
"""Durations whose name in steps has no suffix: `at_epochs` means `at`, but `warmup_epochs` `warmup_steps`."""

CAST = ("networks", "terms")
PLAIN = ("data", "merge", "cache", "classifier")
"""Sections in which nothing is a duration: `examples` are examples there."""


def settings_in_steps(settings: Mapping[str, Any], steps_per_epoch: float, batch: int) -> dict[str, Any]:
    """Rewrites every duration of a stage's settings in steps: `warmup_epochs=5` as `warmup_steps=...`.

    Raises:
        UserError: where two units tell the same, and for a share of the run that is none.
    """
    units = {"epochs": steps_per_epoch, "examples": 1 / batch}
    length = {key: settings[key] for key in ("steps", "epochs", "examples") if key in settings}
    units["share"] = in_steps(length, units).get("steps", 0)
    return in_steps(settings, units)


def in_steps(section: Any, units: Mapping[str, float]) -> Any:
    """Rewrites the durations of a tree of settings; `units` are in steps."""
    if not isinstance(section, Mapping):
        return section
    result, given = {}, {}
    for key, value in section.items():
        stem = bare(key)
        if value and isinstance(value, (int, float, tuple, list)) and given.setdefault(stem, key) != key:
            raise UserError(f"{given[stem]} and {key} say the same thing; set one of them, the other to 0")
        if stem == key:
            result.setdefault(key, value if key in (*CAST, *PLAIN) else in_steps(value, units))
        elif value or stem not in section:
            result[stem] = _times(key, value, units)
    # What a term sets may be a schedule; other keys are its method's, and a network's are its model's.
    if isinstance(result.get("terms"), Mapping):
        result["terms"] = {
            name: {key: in_steps(value, units) for key, value in entry.items()} if isinstance(entry, Mapping) else entry
            for name, entry in result["terms"].items()
        }
    return result


def _times(key: str, value: Any, units: Mapping[str, float]) -> Any:
    unit = key.rpartition("_")[2]
    several = hasattr(value, "__len__")
    if unit == "share":
        for share in value if several else [value]:
            check_kind(key, share, 0.0)
            check_between(key, share, 0, 1)
    return tuple(round(v * units[unit]) for v in value) if several else round(value * units[unit])


def bare(key: str) -> str:
    """The name of a duration in steps: `every` for `every_epochs`, `steps` for `epochs`; else the key itself."""
    for unit in UNITS:
        if key == unit and unit != "share":
            return "steps"
        if key.endswith(f"_{unit}"):
            stem = key.removesuffix(f"_{unit}")
            return stem if stem in BARE else f"{stem}_steps"
    return key


def other_units(key: str, section: Mapping[str, Any]) -> list[str]:
    """The keys of a section that tell the same duration as `key` in another unit."""
    return [other for other in section if other != key and bare(other) == bare(key)]
