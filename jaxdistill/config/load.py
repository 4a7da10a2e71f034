"""Config files and their stages: read, overridden by flags, inherited, parsed; each in one function, in this order.

A config file has `get_config(mode="") -> ConfigDict`. A stage inherits the top level. Its `networks` and `terms` name
its entries: those alone, each merged over the top level's entry of that name (`{}` takes it as it is, `like="student"`
takes another's; one that names another model or method stands alone). Sections such as `data` are merged key by key;
any other key replaces the inherited one. Durations may have units (`every_epochs=5`).
"""

import dataclasses
import importlib.util
import inspect
import pathlib
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxdistill import configs
from jaxdistill.config import names, overrides, registry
from jaxdistill.config.durations import Duration, bare
from jaxdistill.config.formats import complete, is_of_weights
from jaxdistill.config.parse import FlagText, check, entries, free_keys, parse_section, plain, raise_all
from jaxdistill.config.references import stages_read
from jaxdistill.config.schema import StageSettings, has_key, is_merged, settings_of
from jaxdistill.config.toposort import in_order
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

CAST = ("networks", "terms")
"""Sections of a stage that name its entries."""

OF_LEARNING = ("optimizer", "learning_rate")
"""Keys of a network that count while it learns."""


def load(file: str, flags: Iterable[str] = ()) -> dict[str, StageSettings]:
    """Returns the settings of every stage of a config.

    Args:
        file: `path.py[:mode]`.
        flags: `--config.PATH=TEXT`, which override the file.

    Raises:
        UserError: for mistakes in the file or the flags, one line each.
    """
    return stages_of_user(overrides.apply(read(file), flags))


def stages_of_user(raw: Mapping[str, Any]) -> dict[str, StageSettings]:
    """Returns the settings of the stages of a whole config, as a user writes it (`stages`).

    Raises:
        UserError: for mistakes, one line each, such as an optimizer of a network that no stage trains.
    """
    settings = stages(raw)
    _check_trained(raw, settings)
    return settings


def _check_trained(raw: Mapping[str, Any], settings: Mapping[str, StageSettings]) -> None:
    """Raises `UserError` for a network with an optimizer or a learning rate of its own that no stage trains."""
    keys_of: dict[str, set[str]] = {}  # paths of keys, and the networks that they count for
    trained: set[str] = set()
    for stage, parsed in settings.items():
        entries_of_stage = (raw.get("stages") or {}).get(stage, {}).get("networks", {})
        for name, network in parsed.networks.items():
            entry = entries_of_stage.get(name, {})
            names = {name, entry.get("like", name)}
            if registry.find("kind", parsed.kind).trains and registry.find("network", network.source).learns:
                trained |= names
            for key in (key for key in OF_LEARNING if network.options.get(key) is not None):
                above = f"networks.{entry.get('like', name)}.{key}"
                path = f"stages.{stage}.networks.{name}.{key}" if key in entry else above
                keys_of.setdefault(path, set()).update(names)
    raise_all(
        f"{path} must be absent from a network that no stage trains, got one for {sorted(names)}. Remove it, or train"
        " the network (source='trained')"
        for path, names in keys_of.items()
        if not names & trained
    )


def read(file: str) -> dict[str, Any]:
    """Returns what `get_config` of `path.py[:mode]` returns, as plain dicts.

    A file may list its modes in `MODES`; `MODE@TEXT` is a mode of the list with an argument of its own.

    Raises:
        UserError: for a missing or broken file, and an unknown mode.
    """
    scheme = file.partition("://")[0] + "://" if "://" in file else ""
    path, _, mode = file.removeprefix(scheme).partition(":")
    path = str(files.local_path("--config", scheme + path))
    location = find(path)
    spec = importlib.util.spec_from_file_location(f"config_{location.stem}", location)
    if spec is None or spec.loader is None:
        raise UserError(f"--config must be a Python file, got {path!r}. Name it with the ending .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        _check_module(module, path, mode)
        config = module.get_config(mode)
        raw = config.to_dict() if isinstance(config, ConfigDict) else None
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a config is a user's program
        raise _failure(location, error) from error
    if raw is None:
        raise UserError(f"get_config of {location} must return an ml_collections ConfigDict, got {config!r}")
    return raw


def _check_module(module: types.ModuleType, path: str, mode: str) -> None:
    """Raises `UserError` unless a config file has `get_config(mode)`, and the mode if it lists its modes."""
    function = getattr(module, "get_config", None)
    if not callable(function):
        raise UserError(f"{path} must have a function get_config(mode), got {function!r}. Define it")
    try:
        inspect.signature(function).bind(mode)
    except TypeError as error:
        signature = f"get_config{inspect.signature(function)}"
        raise UserError(
            f"get_config of {path} must take one argument, the mode, got {signature}. Write get_config(mode='')"
        ) from error
    modes = getattr(module, "MODES", (mode,))
    if not isinstance(modes, tuple | list | set | frozenset | Mapping):
        raise UserError(f"MODES of {path} must be a tuple of texts, got {modes!r}. List the modes of get_config")
    if mode.partition("@")[0] not in modes:
        raise unknown(f"mode of {path}", mode, modes)


def _failure(location: pathlib.Path, error: BaseException) -> UserError:
    """Returns the error of a config that raises, with the last of its own lines that was executed."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if pathlib.Path(frame.filename).absolute() == location.absolute()]
    place = f", line {lines[-1].lineno} ({lines[-1].line})" if lines else ""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return UserError(f"{location}{place} cannot be read as a config: {reason}. Correct the file")


def find(path: str) -> pathlib.Path:
    """Returns the config file of that path, or of that path or short name (`digits/kd`) among those of the package."""
    shipped = configs.FOLDER / path.removeprefix("configs/")
    for location in (pathlib.Path(path), shipped, shipped.with_name(f"{shipped.name}.py")):
        if location.is_file():
            return location
    if path.endswith(".py"):
        raise unknown("config file", path, [f"configs/{name}.py" for name in configs.list_names()], "an existing file")
    raise unknown("config", path, configs.list_names(), "an existing file, or the name of one of the package")


def stages(raw: Mapping[str, Any]) -> dict[str, StageSettings]:
    """Returns the settings of the stages of a config, each after those it needs, otherwise in the given order.

    Args:
        raw: nested dicts. Without `stages` the top level is the one stage, named `train`.

    Raises:
        UserError: one line for each mistake.
    """
    shared = {key: value for key, value in raw.items() if key != "stages"}
    named = raw.get("stages") or {"train": {}}
    check(isinstance(named, Mapping), "stages", "a section", named)
    names.check(shared, named)
    settings: dict[str, StageSettings] = {}
    _check_sections(shared)
    networks = shared.get("networks", {})
    shared |= {"networks": {key: complete(entry, f"networks.{key}") for key, entry in networks.items()}}
    lines = _mistakes(shared, named)
    for name, raw_stage in named.items():
        try:
            settings[name] = parse_stage(name, shared, raw_stage)
        except UserError as error:
            lines += [_rename(line, name, raw_stage if raw.get("stages") else {}) for line in str(error).splitlines()]
    raise_all(lines)
    order = in_order("stage", {name: stages_read(item.networks) for name, item in settings.items()})
    return {name: settings[name] for name in order}


def _check_sections(shared: Mapping[str, Any]) -> None:
    """Raises `UserError` for what is no section among those of the top level that stages complete."""
    for key in CAST:
        section = shared.get(key, {})
        check(isinstance(section, Mapping), key, "a section", section)
        for name, entry in section.items():
            check(isinstance(entry, Mapping), f"{key}.{name}", "a section", entry)


def parse_stage(name: str, shared: Mapping[str, Any], raw_stage: Mapping[str, Any]) -> StageSettings:
    """Returns the settings of a stage; inherited keys that its kind does not have are left out."""
    check(isinstance(raw_stage, Mapping), f"stages.{name}", "a section", raw_stage)
    whole = inherit(name, shared, raw_stage)
    kind = settings_of(whole.get("kind", "train"))
    renamed = isinstance(whole.get("kind"), FlagText)
    stated = [key for key in raw_stage if not renamed or isinstance(raw_stage[key], FlagText)]
    keys = {key: value for key, value in whole.items() if key in stated or has_key(kind, key)}
    owner = f"a stage of kind {whole.get('kind', 'train')!r}"
    return parse_section(kind, keys, f"stages.{name}", owner)


def _mistakes(shared: Mapping[str, Any], named: Mapping[str, Any]) -> list[str]:
    """Returns the mistakes of the top level outside of networks and terms, which stages may complete."""
    kinds = [settings_of(kind) for kind in registry.names("kind")]
    for name, raw_stage in named.items():
        if isinstance(raw_stage, Mapping) and ":" in str(raw_stage.get("kind", "")):  # a user's own
            kinds.append(settings_of(raw_stage["kind"], f"stages.{name}.kind"))
    left, lines = {key: value for key, value in shared.items() if key not in CAST}, []
    for kind in dict.fromkeys(kinds):
        section = {key: left.pop(key) for key in [*left] if has_key(kind, key)}
        try:
            parse_section(kind, section, "")
        except UserError as error:
            lines += str(error).splitlines()
    keys = dict.fromkeys(field.name for kind in kinds for field in dataclasses.fields(kind))
    return lines + [str(unknown(key, key, keys, "a key of a stage")) for key in left]


def _rename(line: str, stage: str, raw_stage: Mapping[str, Any]) -> str:
    """Returns a message with the path at which a value is written: at the top level if a stage inherits it."""
    path, space, rest = line.partition(" ")
    prefix = f"stages.{stage}."
    keys = path.removeprefix(prefix).split(".")
    section: Any = raw_stage
    for key in (key.partition("[")[0] for key in keys):
        if not path.startswith(prefix) or not isinstance(section, Mapping) or key not in section:
            break
        section = section[key]
    else:
        return line
    if keys[0] in CAST and len(keys) > 1 and isinstance(raw_stage.get(keys[0]), Mapping):
        keys[1] = raw_stage[keys[0]].get(keys[1], {}).get("like", keys[1])
    return ".".join(keys) + space + rest


def inherit(stage: str, shared: Mapping[str, Any], raw_stage: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a stage with those of the top level that it inherits."""
    whole = dict(shared)
    kind = registry.find("kind", raw_stage.get("kind", shared.get("kind", "train")), f"stages.{stage}.kind")
    for key, value in raw_stage.items():
        whole = {name: x for name, x in whole.items() if name == key or bare(name) != bare(key)}
        if key in CAST and isinstance(value, Mapping):
            whole[key] = {name: _entry(stage, key, name, entry, shared=shared) for name, entry in value.items()}
        elif is_merged(kind.settings, key):
            whole[key] = _overlay(whole.get(key, {}), value)
        else:
            whole[key] = value
    if not kind.needs_networks:
        none = {"networks": (), "reference": "", "pairs": ()}
        whole |= {"networks": {}, "evaluate": {**whole.get("evaluate", {}), **none}}
    return whole


def _entry(stage: str, key: str, name: str, entry: Any, shared: Mapping[str, Any]) -> Any:
    entries_above = shared.get(key, {})
    if not isinstance(entry, Mapping) or not isinstance(entries_above, Mapping):
        return entry
    like = entry.get("like", name)
    entry = {key: value for key, value in entry.items() if key != "like"}
    if like != name and like not in entries_above:
        raise unknown(f"stages.{stage}.{key}.{name}.like", like, entries_above, "an entry of the top level")
    inherited = entries_above.get(like, {})
    if isinstance(inherited, Mapping) and "weights" in entry:
        inherited = {key: value for key, value in inherited.items() if not is_of_weights(key, value)}
    return entry if not isinstance(inherited, Mapping) or replaces(entry, inherited) else {**inherited, **entry}


def replaces(entry: Mapping[str, Any], inherited: Mapping[str, Any]) -> bool:
    """Whether an entry names another model or method than it would inherit, so that it stands alone.

    A cached network has no model, and one with a model has no cache.
    """
    sources = (entry.get("source", inherited.get("source")), inherited.get("source"))
    if inherited and sources.count("cached") == 1:
        return True
    return any(key in entry and entry[key] != inherited.get(key) for key in ("model", "method"))


def _overlay(inherited: Any, raw_stage: Any) -> Any:
    if not (isinstance(inherited, Mapping) and isinstance(raw_stage, Mapping)):
        return raw_stage
    replaced = {bare(key): key for key in raw_stage}
    result = {key: value for key, value in inherited.items() if replaced.get(bare(key), key) == key}
    return result | {key: _overlay(inherited.get(key), value) for key, value in raw_stage.items()}


def to_json(settings: Mapping[str, StageSettings]) -> dict[str, Any]:
    """Returns the resolved config of a run, from which `stages` makes the same settings."""
    return {"stages": {name: plain(stage) for name, stage in settings.items()}}


ABSENT = "(absent)"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists in what two resolved configs are not the same run, a line each: `terms.kd.temperature: 4.0 -> 2.0`.

    A key that one of them does not have counts as its default. Keys that are declared `free` count as the same. A
    difference of keys of several stages is one line, without their names. A section that one of them lacks has no
    values.
    """
    try:
        before, after = stages(old), stages(new)
    except UserError as error:
        return [f"config.json is of another version of jaxdistill: {error}"]
    stages_by_line: dict[str, list[str]] = {}
    for name in [*after, *(name for name in before if name not in after)]:
        for line in _unlike(before.get(name, ABSENT), after.get(name, ABSENT), ""):
            stages_by_line.setdefault(line, []).append(name)
    lines = []
    for line, different in stages_by_line.items():
        is_of_keys = line.startswith(".")
        lines += [line[1:]] if is_of_keys and len(different) > 1 else [f"stages.{name}{line}" for name in different]
    return lines


def _unlike(old: Any, new: Any, path: str) -> Iterator[str]:
    old, new = (plain(item) if hasattr(item, "plain") else item for item in (old, new))
    if all(dataclasses.is_dataclass(item) and not isinstance(item, Duration) for item in (old, new)):
        free = free_keys(old) | free_keys(new)
        old, new = ({k: v for k, v in entries(item).items() if k not in free} for item in (old, new))
    if isinstance(old, Mapping) and isinstance(new, Mapping) and not dataclasses.is_dataclass(old):
        for key in sorted({*old, *new}):
            yield from _unlike(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}.{key}")
    elif plain(old) != plain(new):
        yield f"{path}: {show(old)} -> {show(new)}"


def show(value: Any) -> str:
    """Returns a value of a resolved config as text, a section without its content."""
    if isinstance(value, Duration):
        return f"{value.number} {value.unit}"
    value = plain(value)
    return value if value == ABSENT else "(a section)" if isinstance(value, Mapping) else repr(value)
