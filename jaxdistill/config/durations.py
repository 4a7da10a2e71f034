"""Durations of a config: steps, epochs, examples or a fraction of the run, made optimizer steps in one place."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

Steps = Annotated[int, "optimizer steps"]
"""Type of a field whose key takes units: `every`, `every_epochs`, `every_examples` or `every_fraction`."""

UNITS = ("epochs", "examples", "fraction")
BARE = {"at", "over", "until", "every", "", "log_every"}
"""Durations whose name in steps has no suffix: `at_epochs` means `at`, but `warmup_epochs` means `warmup_steps`."""


@dataclasses.dataclass(frozen=True)
class Duration:
    """A number of epochs, of examples, or a fraction of the run."""

    number: float
    unit: str

    def __bool__(self) -> bool:
        return bool(self.number)

    def key(self, name: str) -> str:
        """Returns the key that sets this duration for the field `name`."""
        if name == "steps":
            return self.unit
        return f"{name.removesuffix('_steps')}_{self.unit}"


def bare(key: str) -> str:
    """Returns the name of a duration in steps: `every` for `every_epochs`, `steps` for `epochs`; else the key."""
    for unit in UNITS:
        if key == unit and unit != "fraction":
            return "steps"
        if key.endswith(f"_{unit}"):
            stem = key.removesuffix(f"_{unit}")
            return stem if stem in BARE else f"{stem}_steps"
    return key


def in_steps(settings: Any, steps_per_epoch: float, batch: int) -> Any:
    """Returns settings of a stage whose durations are all in optimizer steps.

    Args:
        settings: of a stage, parsed.
        steps_per_epoch: steps of one pass over the training split, which need not be whole.
        batch: examples of a step.
    """
    units = {"epochs": steps_per_epoch, "examples": 1 / batch}
    return _replace_durations(settings, units | {"fraction": _in_steps(getattr(settings, "steps", 0), units)})


def _in_steps(duration: int | Duration, units: Mapping[str, float]) -> int:
    return round(duration.number * units[duration.unit]) if isinstance(duration, Duration) else duration


def _replace_durations(value: Any, units: Mapping[str, float]) -> Any:
    if isinstance(value, Duration):
        return _in_steps(value, units)
    if isinstance(value, tuple):
        return tuple(_replace_durations(item, units) for item in value)
    if isinstance(value, dict):
        return {key: _replace_durations(item, units) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **_replace_durations(fields, units))
    return value
