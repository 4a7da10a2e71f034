"""What a config may say: its sections and their defaults, stages that inherit, durations, overrides.

A config file has `get_config(mode="") -> ConfigDict`. A stage inherits the top level. Its `networks` and
`terms` name its cast: those entries alone, each merged over the top level's entry of that name (`{}` takes it as
it is; one that names another model or method stands alone); its `data`, `evaluate`, `checkpoint` and `mesh` are
merged key by key; anything else that it names replaces what it would inherit. Durations may be given in steps,
epochs or examples (`every_epochs=5`).
"""

import copy
import fnmatch
import importlib.util
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxdistill.config import registry
from jaxdistill.config.defaults import DEFAULTS, FREE, LEAST, MEMBER, NETWORK
from jaxdistill.config.durations import CAST, bare, other_units
from jaxdistill.config.references import stages_read
from jaxdistill.config.sweep import OF_ALL
from jaxdistill.config.toposort import in_order
from jaxdistill.errors import UserError, check_kind, check_least, unknown

MERGED = ("data", "evaluate", "checkpoint", "mesh", "cache", "classifier", "merge")
SCHEDULES = ("rate", "weight")


def read(file: str) -> ConfigDict:
    """Calls `get_config` of `path.py[:mode]` and fills in the defaults; the result is locked.

    A file may list the modes it knows in `MODES`.

    Raises:
        UserError: for a missing or broken file, an unknown mode, and keys that mean nothing.
    """
    path, _, mode = file.partition(":")
    found = find(path)
    spec = importlib.util.spec_from_file_location(f"config_{found.stem}", found)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if mode not in getattr(module, "MODES", (mode,)):
            raise unknown(f"mode of {path}", mode, module.MODES)
        config = module.get_config(mode)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{found} cannot be read as a config: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{found}: get_config returned {type(config).__name__}; it returns an ml_collections ConfigDict"
        )
    filled = ConfigDict(copy.deepcopy(DEFAULTS), sort_keys=False)
    _check_keys(config.to_dict(), "")
    for key, value in config.items():
        if key in MERGED and isinstance(value, ConfigDict):
            _merge_section(filled[key], value)
        else:
            with filled.ignore_type():
                filled[key] = value
    return filled.lock()


def _merge_section(into: ConfigDict, section: ConfigDict) -> None:
    for key, value in section.items():
        if isinstance(value, ConfigDict) and key in into:
            _merge_section(into[key], value)
            continue
        with into.ignore_type(), into.unlocked():
            into[key] = value


def open_stage(config: ConfigDict, keys: Sequence[str]) -> None:
    """Lets a stage be told a key that it inherits: copies what it would inherit there first.

    Args:
        keys: where a flag points, `["stages", "distil", "terms", "kd", "temperature"]`; anything that is not of
            a stage, or not there to be inherited, is left for others to complain about.
    """
    if len(keys) < 3 or keys[0] != "stages" or keys[1] not in config.stages:
        return
    here, above = config.stages[keys[1]], config
    for depth, key in enumerate(keys[2:]):
        if not isinstance(above, ConfigDict):
            return
        if key not in above:
            if key not in here and other_units(key, above):
                with here.unlocked():
                    here[key] = 0.0
            return
        if key not in here:
            if depth == 1 and keys[2] in CAST:  # not of this stage's cast
                return
            with here.unlocked():
                here[key] = _inherited(key, depth, above[key])
        here, above = here[key], above[key]


def open_sweep(config: ConfigDict, keys: Sequence[str]) -> None:
    """Lets a flag list what lanes differ in, `["sweep", "seed"]` or `["stages", "distil", "sweep", "seed"]`."""
    if len(keys) > 3 and keys[0] == "stages" and keys[1] in config.stages:
        config, keys = config.stages[keys[1]], keys[2:]
    if len(keys) < 2 or keys[0] != "sweep" or "sweep" not in config:
        return
    for depth, key in enumerate(keys):
        if not isinstance(config, ConfigDict):
            return
        if key not in config:
            with config.unlocked():
                config[key] = ConfigDict() if depth < len(keys) - 1 else OF_ALL.get(key, ())
        config = config[key]


def open_units(config: ConfigDict, keys: Sequence[str]) -> None:
    """Lets a flag tell a duration in any unit: what the section says of it in the others no longer holds."""
    for key in keys[:-1]:
        if not isinstance(config, ConfigDict) or key not in config:
            return
        config = config[key]
    if not isinstance(config, ConfigDict):
        return
    with config.unlocked(), config.ignore_type():
        for other in other_units(keys[-1], config):
            value = config[other]
            config[other] = () if isinstance(value, tuple) else 0
            if keys[-1] not in config:
                config[keys[-1]] = () if isinstance(value, tuple) else 0.0


def _inherited(key: str, depth: int, value: Any) -> Any:
    if depth == 0 and key in CAST:
        return ConfigDict({name: {} for name in value})
    if not isinstance(value, ConfigDict):
        return value
    return ConfigDict() if depth == 0 and key in MERGED else ConfigDict(value.to_dict())


def set_number(config: ConfigDict, keys: Sequence[str], text: str) -> bool:
    """Puts a number where a schedule stands, as in `--config.rate=0.1`; says whether it did.

    A schedule can stand for the rate, a term's weight, and any number among the fields of a term's method.
    """
    for key in keys[:-1]:
        if not isinstance(config, ConfigDict) or key not in config:
            return False
        config = config[key]
    if not isinstance(config, ConfigDict) or keys[-1] not in config:
        return False
    of_a_method = keys[-3:-2] == ["terms"] and isinstance(config[keys[-1]], ConfigDict)
    if keys[-1] not in SCHEDULES and not of_a_method:
        return False
    try:
        number = float(text)
    except ValueError:
        return False
    with config.ignore_type(), config.unlocked():
        config[keys[-1]] = number
    return True


def find(path: str) -> pathlib.Path:
    """Returns the config file of that path, or of that path among the configs installed with the package."""
    roots = [pathlib.Path(), pathlib.Path(__file__).parents[2]]
    for root in roots:
        if (root / path).is_file():
            return root / path
    known = sorted(str(p.relative_to(roots[1])) for p in (roots[1] / "configs").rglob("*.py") if p.stem != "__init__")
    raise unknown("config file", path, known)


def _check_keys(section: Mapping[str, Any], stage: str) -> None:
    kind = f"config key of stage {stage!r}" if stage else "config key"
    for key, value in section.items():
        if bare(key) not in DEFAULTS and key not in ("epochs", "examples"):
            raise unknown(kind, key, [*DEFAULTS, "epochs", "examples"])
        if key in MERGED:
            _check_section(kind, key, value, DEFAULTS[key])
    for name, inner in section.get("stages", {}).items():
        _check_keys(inner, name)


def _check_section(kind: str, name: str, value: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping):
        raise UserError(f"{kind} {name!r} is {value!r}; it is a section with the keys {sorted(known)}")
    for key, inner in value.items():
        if key not in known and bare(key) not in known:
            raise unknown(kind, f"{name}.{key}", [f"{name}.{option}" for option in known])
        if known.get(key) and isinstance(known[key], Mapping):  # one that is empty is open
            _check_section(kind, f"{name}.{key}", inner, known[key])


def stages(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Writes out the stages of a config, each complete, each after those it needs and otherwise by name.

    Args:
        config: plain nested dicts. Without `stages` the top level is the one stage, named `train`.
    """
    shared = {key: value for key, value in config.items() if key != "stages"}
    named = config.get("stages") or {"train": {}}
    written = {name: _inherit(name, shared, own) for name, own in named.items()}
    for name, stage in written.items():
        if "data" in stage:
            stage["data"] = stage["data"] | {"mix": _members(name, stage["data"]["mix"])}
        check_settings(name, stage)
        if not registry.find("kind", stage.get("kind", "train")).needs_networks:
            stage |= {"networks": {}}  # whatever the top level names
            stage["evaluate"] |= {"networks": (), "reference": "", "pairs": ()}
    names = in_order("stage", {name: stages_read(stage["networks"]) for name, stage in written.items()})
    return {name: written[name] for name in names}


def _inherit(stage: str, shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    whole = copy.deepcopy(dict(shared))
    lengths = ("steps", "epochs", "examples")
    if any(key in own for key in lengths):
        whole = {key: value for key, value in whole.items() if key not in lengths} | {"steps": 0}
    for key, value in own.items():
        if key in CAST:
            whole[key] = {name: _entry(stage, key, name, entry, shared) for name, entry in value.items()}
        elif key in MERGED:
            whole[key] = _overlay(whole[key], value)
        else:
            whole[key] = copy.deepcopy(value)
    return whole


def _members(stage: str, mix: Any) -> dict[str, dict[str, Any]]:
    """Fills in what the entries of `data.mix` do not say."""
    check_kind(f"stage {stage!r}: data.mix", mix, {})
    for name, entry in mix.items():
        full = f"data.mix.{name}"
        _check_section(f"config key of stage {stage!r}", full, entry, MEMBER)
        check_settings(stage, entry, MEMBER, f"{full}.")
        for key in {"size", "channels", "weight"} & {*entry}:
            check_least(f"stage {stage!r}: {full}.{key}", entry[key], 0)
    return {name: _overlay(MEMBER, entry) for name, entry in mix.items()}


def _entry(stage: str, key: str, name: str, entry: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise UserError(f"stage {stage!r}: {key} are named sections; {name!r} is {entry!r}")
    entry = copy.deepcopy(dict(entry))
    like = entry.pop("like", name)
    if like != name and like not in shared[key]:
        raise unknown(f"{key[:-1]} at the top level for stage {stage!r} to copy", like, shared[key])
    inherited = copy.deepcopy(dict(shared[key].get(like, {})))
    return entry if replaces(entry, inherited) else inherited | entry


def replaces(entry: Mapping[str, Any], inherited: Mapping[str, Any]) -> bool:
    """Whether an entry names another model or method than it would inherit, whose keys are then not its own.

    One that is cached has no model, and one that has a model no cache.
    """
    kinds = (entry.get("source", inherited.get("source")), inherited.get("source"))
    if inherited and kinds.count("cached") == 1:
        return True
    return any(key in entry and entry[key] != inherited.get(key) for key in ("model", "method"))


def check_settings(
    stage: str, settings: Mapping[str, Any], known: Mapping[str, Any] = DEFAULTS, name: str = ""
) -> None:
    """Raises `UserError` for a setting of a stage that is not of its default's kind, or smaller than it may be."""
    for key, value in settings.items():
        full = f"{name}{key}"
        if key not in known and bare(key) != key:
            check_kind(f"stage {stage!r}: {full}", value, () if isinstance(value, (tuple, list)) else 0.0)
        elif key in known and key not in ("rate", "stages"):
            check_kind(f"stage {stage!r}: {full}", value, known[key])
            if known[key] and isinstance(known[key], dict) and (key in MERGED or name):
                check_settings(stage, value, known[key], f"{full}.")
        if full in LEAST:
            check_least(f"stage {stage!r}: {full}", value, LEAST[full])
        if full in ("seed", "data.seed") and value >= 2**32:
            raise UserError(f"stage {stage!r}: {full}={value} makes no sense; it is less than 2^32")


def _overlay(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(under))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _overlay(result[key], value) if both else copy.deepcopy(value)
        if bare(key) != key:  # a stage's `every_epochs` replaces an inherited `every`
            result.pop(bare(key), None)
        result = {k: v for k, v in result.items() if k == key or bare(k) != key}
    return result


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists in what two resolved configs are not the same run, a line each: `terms.kd.temperature: 4.0 -> 2.0`.

    A key that one of them does not have yet counts as its default, and `FREE` keys as the same.
    """
    return [f"{name}: {one!r} -> {other!r}" for name, one, other in _unlike(old, new) if _matters(name, one, other)]


ABSENT = "(absent)"


def _unlike(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    old, new = ({} if one == ABSENT and isinstance(two, Mapping) else one for one, two in ((old, new), (new, old)))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _unlike(old.get(key, ABSENT), new.get(key, ABSENT), f"{name}.{key}".strip("."))
    elif old != new:
        yield name, old, new


def _matters(name: str, old: Any, new: Any) -> bool:
    words = name.split(".")
    own = words[2:] if words[0] == "stages" else words
    if any(fnmatch.fnmatchcase(".".join(own[: key.count(".") + 1]), key) for key in FREE):
        return False
    if ABSENT not in (old, new) or own is not words:  # what a stage does not say, it inherits
        return True
    default: Any = DEFAULTS | {"networks": dict.fromkeys(words[1:2], NETWORK)}
    for word in words:
        default = default.get(word, ABSENT) if isinstance(default, Mapping) else ABSENT
    return json.loads(json.dumps(default)) != (new if old == ABSENT else old)
