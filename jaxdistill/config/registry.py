"""Files are the registry: `kd` is the class `KD` in `methods/kd.py`, `cifar_resnet` is `CifarResNet` in its file."""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxdistill.errors import UserError, check_kind, unknown

KINDS = {"method": "jaxdistill.methods", "model": "jaxdistill.models"}


def names(kind: str) -> list[str]:
    """The files of a kind ("method" or "model") that define what they are named after."""
    package = importlib.import_module(KINDS[kind])
    files = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return [name for name in files if _member(kind, name)]


@functools.cache
def _member(kind: str, name: str) -> type | None:
    module = importlib.import_module(f"{KINDS[kind]}.{name}")
    plain = name.replace("_", "")
    own = (value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__)
    return next((value for value in own if isinstance(value, type) and value.__name__.lower() == plain), None)


def find(kind: str, name: str) -> type:
    """Returns the class of that name, or raises `UserError` with the nearest name and the list."""
    package = importlib.import_module(KINDS[kind])
    files = {info.name for info in pkgutil.iter_modules(package.__path__)}
    found = _member(kind, name) if name in files else None
    if found is None:
        raise unknown(kind, name, names(kind))
    return found


def fields(member: type) -> dict[str, Any]:
    """The fields of a Linen module that a config may set, with their defaults."""
    own = [f for f in dataclasses.fields(member) if f.name not in ("parent", "name", "classes", "dtype")]
    return {f.name: None if f.default is dataclasses.MISSING else f.default for f in own}


def make(kind: str, name: str, arguments: Mapping[str, Any], **given: Any):
    """Makes a module from config keys.

    Raises:
        UserError: for a name or a key that is not there, and a value of another kind than the default's.
    """
    member = find(kind, name)
    known = fields(member)
    for key, value in arguments.items():
        if key not in known:
            raise unknown(f"{kind} {name!r}: key", key, known)
        check_kind(f"{kind} {name!r}: {key}", value, known[key])
    try:
        return member(**arguments, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind} {name!r} refuses {dict(arguments)}: {error}") from error


def dtype(name: str):
    """Returns the compute dtype of that name."""
    known = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name not in known:
        raise unknown("dtype", name, known)
    return known[name]
