"""Flags that set keys of a config: `--config.a.b=c` puts the text `c` at the path `a.b`.

Types are the concern of `parse`, once, for files and flags alike.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxdistill.config.durations import bare
from jaxdistill.config.parse import FlagText
from jaxdistill.config.schema import is_merged, settings_of
from jaxdistill.errors import UserError, unknown

NAMED = ("stages", "networks", "terms", "mix")
"""Sections of named entries; a flag sets keys of existing ones."""


def apply(raw: Mapping[str, Any], flags: Iterable[str]) -> dict[str, Any]:
    """Returns a config with flags applied, those of the top level first.

    Args:
        raw: nested dicts.
        flags: `--config.PATH=TEXT`.

    Raises:
        UserError: for an empty key, and for a stage, network, term or dataset that does not exist.
    """
    overridden: dict[str, Any] = copy(raw)
    for flag in sorted(flags, key=lambda flag: flag.startswith("--config.stages.")):  # stages inherit the others
        path, _, text = flag.removeprefix("--config.").partition("=")
        if "" in path.split("."):
            raise UserError(f"{flag} must be --config.KEY=VALUE, got an empty key. Write one, as in --config.batch=64")
        set_value(overridden, path.split("."), FlagText(text))
    return overridden


def find_shadowed(raw: Mapping[str, Any], flags: Iterable[str]) -> list[str]:
    """Returns a line for each flag of the top level whose key stages set for themselves, so that it passes them by.

    Args:
        raw: nested dicts, without the flags.
        flags: `--config.PATH=TEXT`; stages that have one of their own for that key are left out.
    """
    flags = [*flags]
    paths = {flag: flag.removeprefix("--config.").partition("=")[0].split(".") for flag in flags}
    of_stages = {tuple(map(bare, path[1:])) for path in paths.values() if path[0] == "stages"}
    lines = []
    for flag, path in paths.items():
        keys = {
            name: key
            for name, stage in (raw.get("stages") or {}).items()
            if path[0] != "stages" and (key := _find_own(stage, path)) and (name, *map(bare, path)) not in of_stages
        }
        if keys:
            text = f"--config.stages.{next(iter(keys))}.{flag.removeprefix('--config.')}"
            lines.append(
                f"{flag} does not reach stages {[*keys]}, which have {' and '.join(dict.fromkeys(keys.values()))} of"
                f" their own; {text} does"
            )
    return lines


def _find_own(stage: Any, path: list[str]) -> str:
    """Returns the key at a path of a stage, in whichever unit; "" without it, and for a section, which is merged."""
    last = ""
    for key in path:
        keys = [name for name in stage if bare(name) == bare(key)] if isinstance(stage, Mapping) else []
        if not keys:
            return ""
        last, stage = keys[0], stage[keys[0]]
    return "" if isinstance(stage, Mapping) else ".".join([*path[:-1], last])


def copy(raw: Any) -> Any:
    """Returns a copy of nested dicts."""
    return {key: copy(value) for key, value in raw.items()} if isinstance(raw, Mapping) else raw


def set_value(raw: dict[str, Any], keys: list[str], value: Any) -> None:
    """Sets one value by its path, in place; the same duration in other units is removed."""
    section, above = raw, {}  # `above` holds what a stage would inherit in the place of `section`
    for depth, key in enumerate(keys[:-1]):
        names = {*section, *above} if keys[depth - 1] == "mix" else section
        if depth and keys[depth - 1] in NAMED and "sweep" not in keys[:depth] and key not in names:
            raise unknown(".".join(keys[: depth + 1]), key, names)
        if not isinstance(section.get(key), dict):
            section[key] = _write_inherited(raw, keys[: depth + 1], above.get(key))
        section = section[key]
        above = raw if depth == 1 and keys[0] == "stages" else above.get(key)
        above = above if isinstance(above, Mapping) else {}
    for unit_key in [unit_key for unit_key in section if unit_key != keys[-1] and bare(unit_key) == bare(keys[-1])]:
        del section[unit_key]
    section[keys[-1]] = value


def _write_inherited(raw: Mapping[str, Any], keys: list[str], inherited: Any) -> dict[str, Any]:
    """Returns the section of a stage in which a key can be set so that the other keys are still inherited."""
    if not isinstance(inherited, Mapping):
        return {}
    _, stage, key, *names = keys
    kind = raw["stages"][stage].get("kind", raw.get("kind", "train"))
    if is_merged(settings_of(kind, f"stages.{stage}.kind"), key):
        return {}
    if key in ("networks", "terms") and len(names) < 2:
        return {} if names else {name: {} for name in inherited}
    return copy(inherited)
