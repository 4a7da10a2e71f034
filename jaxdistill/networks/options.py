"""Config keys of a source: those fields of its dataclass that have a meaning."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from jaxdistill.errors import UserError

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


def select(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that are fields of a dataclass."""
    return {name: options[name] for name in option_fields(kind)}


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
        UserError: if a tuple of names is empty.
    """
    names: list[str] = []
    for key, names_several in reference_fields(kind).items():
        if names_several and not options[key]:
            raise UserError(f"{path}.{key} must be a tuple of networks such as ('a', 'b'), got {options[key]!r}")
        names += options[key] if names_several else [options[key]]
    return tuple(names)
