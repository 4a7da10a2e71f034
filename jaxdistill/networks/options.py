"""Config keys of a source: those fields of its dataclass that have a meaning."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from jaxdistill.config.parse import check_bounds, hints_of, parse
from jaxdistill.errors import UserError, unknown

NetworkRef = Annotated[str, "network"]
"""Type of a field that names another network; `tuple[NetworkRef, ...]` names several."""


def required(meaning: str) -> Any:
    """Declares a field that a config must set."""
    return dataclasses.field(metadata={"meaning": meaning})


def built() -> Any:
    """Declares a field that `build` sets; it is no config key."""
    return dataclasses.field()


def option_fields(*kinds: type) -> dict[str, dataclasses.Field]:
    """Returns the fields of dataclasses that are config keys, by name."""
    return {field.name: field for kind in kinds for field in dataclasses.fields(kind) if "meaning" in field.metadata}


def parse_options(kind: type, options: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Returns values by field of a dataclass.

    Args:
        kind: the dataclass.
        options: raw values; keys that are not among its fields are ignored.
        path: of the section, for messages.

    Raises:
        UserError: if a key is missing, or a value is of another type or out of bounds.
    """
    hints, fields, values = hints_of(kind), option_fields(kind), {}
    for name, field in fields.items():
        if name in options:
            values[name] = parse(hints[name], options[name], f"{path}.{name}")
            check_bounds(f"{path}.{name}", values[name], field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{path}.{name} must be set: {field.metadata['meaning']}. The keys are {[*fields]}")
    return values


def check_keys(options: Iterable[str], keys: Iterable[str], owner: str, path: str) -> None:
    """Raises `UserError` for the first of `options` that is not one of `keys`."""
    keys = list(keys)
    for name in options:
        if name not in keys:
            raise unknown(f"{path}.{name}", name, keys, f"a key of {owner}")


def reference_fields(kind: type) -> dict[str, bool]:
    """Returns the fields of a source that name other networks, with whether one names several."""
    references = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if hint in (NetworkRef, tuple[NetworkRef, ...]):
            references[name] = hint is not NetworkRef and hint != NetworkRef
    return references


def references(kind: type, options: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """Returns the networks that the options of a source name.

    Raises:
        UserError: if a value is not the name of a network, or a tuple of names.
    """
    fields, names = option_fields(kind), []
    for key, is_tuple in reference_fields(kind).items():
        value = options.get(key, fields[key].default)
        if value is dataclasses.MISSING:
            continue  # reported with the other keys, when the source is built
        names_several = isinstance(value, tuple | list) and value and all(isinstance(name, str) for name in value)
        if is_tuple and not names_several:
            raise UserError(f"{path}.{key} must be a tuple of networks such as ('a', 'b'), got {value!r}")
        if not is_tuple and not isinstance(value, str):
            raise UserError(f"{path}.{key} must be the name of a network, got {value!r}")
        names += value if is_tuple else [value]
    return tuple(names)
