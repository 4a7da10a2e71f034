"""Typed values from the raw values of config files and flags, by one recursive function over type hints, and back."""

import ast
import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from jaxdistill.config.durations import Duration, Steps, bare
from jaxdistill.errors import UserError, article, check_names, unknown


class FlagText(str):
    """The text of a flag's value; it is read by the type of its key."""


def option(
    default: Any,
    meaning: str,
    *,
    least: float | None = None,
    below: float | None = None,
    choices: tuple[str | int, ...] = (),
    free: bool = False,
) -> Any:
    """Declares a field of a section.

    Args:
        default: a value, or the class of a section.
        meaning: one line for `docs/config.md`.
        least: the smallest value, inclusive.
        below: the upper bound, exclusive.
        choices: the values of a name.
        free: whether a run may resume with another value, because results do not depend on it.
    """
    metadata = {"meaning": meaning, "least": least, "below": below, "choices": choices, "free": free}
    if isinstance(default, type | types.FunctionType | types.MethodType):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parse(kind: Any, raw: Any, path: str) -> Any:
    """Returns a raw value as a value of a type.

    Args:
        kind: a type hint: a scalar, a tuple, a dict, a union, a section, or a class with a `parse(raw, path)`.
        raw: a value of a config file, or a `FlagText`.
        path: the key of the value, for messages.

    Raises:
        UserError: if the value is of another type; for a section, one line for each of its mistakes.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if isinstance(raw, kind):
            return raw
        parse_own = getattr(kind, "parse", None)
        return parse_own(raw, path) if parse_own else parse_section(kind, raw, path)
    if hasattr(kind, "parse"):
        return kind.parse(raw, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return _parse_any(raw)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(arguments, raw, path)
    if origin is Annotated and kind != Steps:
        check(isinstance(raw, str), path, f"the name of {article(arguments[1])}", raw)
        return str(raw)
    if origin is dict:
        value = _literal(raw) if isinstance(raw, FlagText) else raw
        check(isinstance(value, Mapping), path, "a section", raw)
        return {name: parse(arguments[1], item, join(path, name)) for name, item in value.items()}
    if origin is tuple:
        value = _split(raw) if isinstance(raw, FlagText) else raw
        check(isinstance(value, tuple | list), path, describe(kind), raw)
        return tuple(parse(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    return _parse_steps(raw, path) if kind == Steps else _parse_scalar(kind, raw, path)


def _parse_any(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        return {key: _parse_any(value) for key, value in raw.items()}
    return _literal(raw) if isinstance(raw, FlagText) else raw


def _parse_scalar(kind: type, raw: Any, path: str) -> Any:
    value = raw
    if isinstance(raw, FlagText):
        value = str(raw) if kind is str else BOOLS.get(raw.lower()) if kind is bool else _literal(raw)
    if kind is float and type(value) is int:
        value = float(value)
    check(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), path, describe(kind), raw)
    return value


def _parse_steps(raw: Any, path: str) -> int:
    number = _parse_scalar(float, raw, path)
    whole = number >= 0 and float(number).is_integer()
    check(whole, path, "a whole number of steps, or have a unit (_epochs, _examples, _fraction)", raw)
    check(number < MOST_STEPS, path, f"less than {MOST_STEPS:,}", raw)
    return int(number)


MOST_STEPS = 2**31
"""Optax counts steps in 32 bits."""

BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _parse_union(kinds: tuple[Any, ...], raw: Any, path: str) -> Any:
    if raw is None and type(None) in kinds:
        return None
    if type(raw) in kinds:
        return raw
    *first, last = [kind for kind in kinds if kind is not type(None)]
    for kind in first:
        try:
            return parse(kind, raw, path)
        except UserError:
            continue
    try:
        return parse(last, raw, path)
    except UserError as error:
        if not {*first, last} <= NOUNS.keys():
            raise
        value = str(raw) if isinstance(raw, FlagText) else raw
        nouns = " or ".join(NOUNS[kind] for kind in (*first, last))
        raise UserError(f"{path} must be {nouns}, got {value!r}") from error


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return str(text)


def _split(text: str) -> tuple[Any, ...]:
    """Returns the values of `(1, 2)`, `1, 2`, `a,b` or `a`."""
    value = _literal(text)
    if isinstance(value, str):
        return tuple(FlagText(part.strip()) for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def describe(kind: Any) -> str:
    """Returns a noun for the values of a type, with its article."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        noun = PLURALS.get(arguments[0], "values")
        return f"a tuple of {noun}"
    return NOUNS.get(kind) or f"of type {getattr(kind, '__name__', kind)}"


NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def parse_section(kind: type, raw: Any, path: str, owner: str = "this section") -> Any:
    """Returns a section from its keys, which may have a unit if they are durations (`every_epochs`).

    Args:
        kind: the dataclass of the section.
        raw: values by key.
        path: the key of the section, for messages.
        owner: a noun for the section, for messages.
    """
    fields, hints = {f.name: f for f in dataclasses.fields(kind) if f.metadata}, hints_of(kind)
    check(isinstance(raw, Mapping), path, f"a section with keys of {sorted(fields)}", raw)
    values: dict[str, Any] = {}
    lines: list[str] = []
    for key, value in raw.items():
        try:
            name = bare(key) if key not in fields and is_duration(hints.get(bare(key))) else key
            if name not in fields:
                raise unknown(join(path, key), key, fields, f"a key of {owner}")
            parsed = parse_key(hints[name], key, name, value, path=path)
            check_bounds(join(path, key), parsed, fields[name].metadata)
            values[name] = one_duration(path, name, values.get(name), parsed) if is_duration(hints[name]) else parsed
        except UserError as error:
            lines.append(str(error))
    raise_all(lines)
    return kind(**values)


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """Returns the type hints of a class; those that cannot be resolved are `Any`."""
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError:  # names that are imported for a type checker alone
        return {field.name: Any for field in dataclasses.fields(kind)}


def is_duration(hint: Any) -> bool:
    """Whether a hint is of optimizer steps, so that its key takes units."""
    optional = (typing.Optional[Steps], typing.Optional[tuple[Steps, ...]])  # noqa: UP045
    return hint in (Steps, tuple[Steps, ...], *optional)


def parse_key(hint: Any, key: str, name: str, raw: Any, path: str) -> Any:
    """Returns the value of a key; `key` is not the field's `name` if it has a unit."""
    return parse(hint, raw, join(path, key)) if key == name else parse_duration(key, name, raw, path)


def is_flag(raw: Mapping[str, Any], key: str) -> bool:
    """Whether a flag has set a key."""
    return isinstance(raw.get(key), FlagText)


def without(raw: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of `raw` with other keys."""
    return {key: value for key, value in raw.items() if key not in keys}


def parse_members(
    hints: Mapping[str, Any], raw: Mapping[str, Any], path: str, owner: str, renamed: bool
) -> dict[str, Any]:
    """Returns the values of keys that the member of a room defines.

    Args:
        hints: types by key.
        raw: values by key.
        path: the key of the section, for messages.
        owner: the member, for messages.
        renamed: whether a flag has named the member; keys of the config file that it lacks are then dropped.
    """
    values: dict[str, Any] = {}
    lines: list[str] = []
    for key, value in raw.items():
        name = key if key in hints else bare(key)
        try:
            if name in hints:
                values[name] = parse_key(hints[name], key, name, value, path=path)
            elif not renamed or isinstance(value, FlagText):
                raise unknown(join(path, key), key, hints, f"a key of {owner}")
        except UserError as error:
            lines.append(str(error))
    raise_all(lines)
    return values


def parse_duration(key: str, name: str, raw: Any, path: str) -> Any:
    """Returns the `Duration`s of a key with a unit, such as `at_epochs=(10, 16)` for `at`."""
    unit = key.rpartition("_")[2]
    is_list = isinstance(raw, tuple | list) or (isinstance(raw, FlagText) and isinstance(_literal(raw), tuple))
    numbers = parse(tuple[float, ...] if is_list else float, raw, join(path, key))
    for number in numbers if is_list else (numbers,):
        check(0 <= number < float("inf"), join(path, key), "at least 0 and finite", number)
        check(unit != "fraction" or number <= 1, join(path, key), "in [0, 1]", number)
    return tuple(Duration(item, unit) for item in numbers) if is_list else Duration(numbers, unit)


def one_duration(path: str, name: str, first: Any, second: Any) -> Any:
    """Returns the one of two values of a duration that is not zero."""
    if first is None or not first:
        return second
    if not second:
        return first
    units = sorted({getattr(value, "unit", "steps") for value in (first, second)})
    raise UserError(f"{join(path, name)} must be set in one unit, got it in {units}. Set the others to 0")


def check_bounds(path: str, value: Any, bounds: Mapping[str, Any]) -> None:
    """Raises `UserError` for a value outside the bounds of its field's metadata."""
    if value is None:
        return
    least, below, choices = (bounds.get(key) for key in ("least", "below", "choices"))
    number = value.number if isinstance(value, Duration) else value
    if least is not None:
        check(least <= number < float("inf"), path, f"at least {least} and finite", number)
    if below is not None:
        check(number < below, path, f"less than {below}", number)
    if choices:
        check_names(path, [value], choices)


def check(holds: bool, path: str, constraint: str, value: Any) -> None:
    """Raises `UserError` unless `holds`."""
    if not holds:
        value = str(value) if isinstance(value, FlagText) else value
        raise UserError(f"{path} must be {constraint}, got {value!r}")


def join(path: str, key: str) -> str:
    """Returns the path of a key in the section at `path`."""
    return f"{path}.{key}" if path else key


def raise_all(lines: Iterable[str]) -> None:
    """Raises one `UserError` of all lines, each once, if there are any."""
    lines = list(dict.fromkeys(line for text in lines for line in text.splitlines()))
    if lines:
        raise UserError("\n".join(lines))


def entries(section: Any) -> dict[str, Any]:
    """Returns the values of a section by key; those of `section.OPEN` are keys of the section itself."""
    values = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    return values | values.pop(section.OPEN) if getattr(section, "OPEN", "") else values


def free_keys(section: Any) -> set[str]:
    """Returns the keys of a section that results do not depend on, with which a run may resume at other values."""
    declared = {field.name for field in dataclasses.fields(section) if field.metadata.get("free")}
    return declared | getattr(section, "free", set())


def plain(value: Any) -> Any:
    """Returns a parsed value as nested dicts, lists, numbers and texts, from which `parse` makes it again."""
    if hasattr(value, "plain"):
        return value.plain()
    if dataclasses.is_dataclass(value):
        value = entries(value)
    if isinstance(value, Mapping):
        return dict(_plain_entry(key, item) for key, item in value.items())
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def _plain_entry(key: str, value: Any) -> tuple[str, Any]:
    durations = value if isinstance(value, tuple) else (value,)
    if not durations or not isinstance(durations[0], Duration):
        return key, plain(value)
    numbers = [item.number for item in durations]
    return durations[0].key(key), numbers if isinstance(value, tuple) else numbers[0]
