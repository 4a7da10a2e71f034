"""Classes and functions in a config of a program, written as the `"package.module:Name"` that the config stores."""

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxdistill.errors import UserError


def name_objects(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns a config as nested dicts, with the name of each class and function in its place.

    Raises:
        UserError: for a class or function that cannot be imported by its name, and anything but a mapping.
    """
    if not isinstance(config, Mapping | ConfigDict):
        raise UserError(f"config must be a mapping, a ConfigDict or the name of a config, got {config!r}. Name one")
    return _plain(config, "")


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_plain(item, f"{path}[{place}]") for place, item in enumerate(value)])
    if inspect.isclass(value) or inspect.isroutine(value):
        return _name(value, path)
    return value


def _name(member: Any, path: str) -> str:
    module, name = getattr(member, "__module__", ""), getattr(member, "__qualname__", "")
    if getattr(sys.modules.get(module), name, None) is not member:
        raise UserError(
            f"{path} must be importable by its name, got {member!r} of {module}. Define it at the top of a module"
        )
    return f"{module}:{name}"
