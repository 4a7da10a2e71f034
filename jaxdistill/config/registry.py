"""Names of a config and the objects they stand for: files and entries of the rooms, or `"package.module:Name"`.

`kd` is the class `KD` in `methods/kd.py`, `cifar_resnet` is `CifarResNet` in its file. A room may list entries
instead of files, such as the metrics of `metrics.METRICS`. `"my_lab.losses:MyKD"` is imported from the path of
modules, on which the current folder is, and is held to the same checks.
"""

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import typing
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxdistill.errors import UserError, article, check_kind, unknown


@dataclasses.dataclass(frozen=True)
class Room:
    """A place where members are found by name.

    Attributes:
        module: the package whose files are members, or the module that lists entries.
        base: `module:Class` that a member is, or is an instance or a subclass of; a protocol by its members.
        entries: a mapping of members in `module`, or a function that returns one; "" for files.
    """

    module: str
    base: str = ""
    entries: str = ""


ROOMS = {
    "method": Room("jaxdistill.methods", base="jaxdistill.core:Method"),
    "model": Room("jaxdistill.models", base="flax.linen:Module"),
    "view": Room("jaxdistill.compress", base="jaxdistill.compress.view:View"),
    "network": Room("jaxdistill.networks", base="jaxdistill.networks.source:Source"),
    "head": Room("jaxdistill.modules.heads", base="jaxdistill.modules.heads:TapHead", entries="HEADS"),
    "weighting": Room("jaxdistill.modules.weightings", entries="WEIGHTINGS"),
    "merge_rule": Room("jaxdistill.merging.rules", entries="RULES"),
    "kind": Room("jaxdistill.stages", base="jaxdistill.build.kind:Kind"),
    "task": Room("jaxdistill.tasks", base="jaxdistill.tasks.task:Task"),
    "dataset": Room("jaxdistill.data.datasets", entries="DATASETS"),
    "metric": Room("jaxdistill.metrics", entries="METRICS"),
    "augmentation": Room("jaxdistill.data.augment", entries="AUGMENTATIONS"),
    "transform": Room("jaxdistill.data.tables.transforms", entries="TRANSFORMS"),
    "optimizer": Room("jaxdistill.train.optim", entries="optimizers"),
    "schedule": Room("jaxdistill.train.optim", entries="schedules"),
    "tracker": Room("jaxdistill.trackers", base="jaxdistill.trackers.tracker:Tracker"),
    "export_format": Room("jaxdistill.export.formats", entries="FORMATS"),
    "weight_format": Room("jaxdistill.pretrained.formats", entries="FORMATS"),
}


def find(room: str, name: str, path: str = "") -> Any:
    """Returns the member of a room that a config names.

    Args:
        room: a key of `ROOMS`, such as "method".
        name: a file of the room or one of its entries, or `"package.module:Name"`.
        path: the key that names it, for messages, such as `terms.kd.method`.

    Raises:
        UserError: if there is no such member, with the nearest name, or it is of another type.
    """
    path = path or room
    if not isinstance(name, str):
        raise UserError(f"{path} must be the name of {article(room)}, got {name!r}")
    if ":" in name:
        member = _import_member(room, name, path)
    elif ROOMS[room].entries:
        member = _entries(room).get(name)
    else:
        member = _member(room, name) if _has_file(room, name) else None
    if member is None:
        raise unknown(path, name, names(room), article(room))
    return member


def names(room: str) -> list[str]:
    """Returns the names of a room's members: its entries, or the files that define what they are named after."""
    if ROOMS[room].entries:
        return sorted(_entries(room))
    return [name for name in _files(room) if _member(room, name)]


def _entries(room: str) -> Mapping[str, Any]:
    entries = getattr(importlib.import_module(ROOMS[room].module), ROOMS[room].entries)
    return entries if isinstance(entries, Mapping) else entries()


def _has_file(room: str, name: str) -> bool:
    return name.isidentifier() and importlib.util.find_spec(f"{ROOMS[room].module}.{name}") is not None


def _files(room: str) -> list[str]:
    package = importlib.import_module(ROOMS[room].module)
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__))


@functools.cache
def _member(room: str, name: str) -> type | None:
    module = importlib.import_module(f"{ROOMS[room].module}.{name}")
    plain = name.replace("_", "")
    classes = (value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__)
    named = (value for value in classes if isinstance(value, type) and value.__name__.lower() == plain)
    return next((value for value in named if _inherits(room, value)), None)


def _inherits(room: str, member: type) -> bool:
    """Whether a class of a file inherits the room's base; such files may also hold other classes."""
    base = _base(room)
    return getattr(base, "_is_protocol", False) or (issubclass(member, base) and member is not base)


def _base(room: str) -> type:
    module, _, attribute = ROOMS[room].base.partition(":")
    return getattr(importlib.import_module(module), attribute) if module else object


def import_object(name: str, path: str) -> Any:
    """Returns what `"package.module:Name"` stands for, of any type.

    Args:
        name: with a colon.
        path: the key that names it, for messages.

    Raises:
        UserError: if it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if "" not in sys.path and "." not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does
    importlib.invalidate_caches()
    if not module or not attribute:
        raise UserError(f"{path} must be of the form 'package.module:Name', got {name!r}. Write both parts")
    try:
        imported = importlib.import_module(module)
        if hasattr(imported, attribute):
            return getattr(imported, attribute)
    except Exception as error:  # a user's module may raise anything
        line = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise UserError(
            f"{path} must be importable, got {name!r} ({line}). Put the folder of {module.partition('.')[0]!r} on"
            " PYTHONPATH, or start the command in it"
        ) from error
    options = [
        f"{module}:{key}"
        for key, value in vars(imported).items()
        if not key.startswith("_") and not inspect.ismodule(value) and getattr(value, "__module__", module) == module
    ]
    raise unknown(path, name, options, f"a name in {module}")


def _import_member(room: str, name: str, path: str) -> Any:
    member = import_object(name, path)
    _check_member(room, member, name, path)
    return member


def _check_member(room: str, member: Any, name: str, path: str) -> None:
    """Raises `UserError` unless a user's member is of the room's type and its fields have types."""
    if not ROOMS[room].base:
        if not callable(member):
            raise UserError(f"{path} must be a function or a class, got {name!r}, which is {member!r}")
        return
    required = _base(room)
    if getattr(required, "_is_protocol", False):
        missing = [key for key in _protocol_members(required) if not hasattr(member, key)]
        holds, constraint = not missing, f"{article(room)} with {missing}"
    else:
        holds = isinstance(member, type) and issubclass(member, required)
        constraint = f"a subclass of {required.__module__}.{required.__qualname__}"
    if not holds:
        raise UserError(f"{path} must be {constraint}, got {name!r}")
    if isinstance(member, type) and not dataclasses.is_dataclass(member) and vars(member).get("__annotations__"):
        raise UserError(f"{path} must be a dataclass, since it has fields, got {name!r}")


def _protocol_members(protocol: type) -> list[str]:
    declared = {
        name for base in protocol.__mro__[:-1] for name in (*vars(base), *vars(base).get("__annotations__", ()))
    }
    return sorted(name for name in declared if not name.startswith("_"))


def fields(member: type) -> dict[str, Any]:
    """Returns the fields of a Linen module that a config may set, with their defaults; `None` for none."""
    settable = [f for f in dataclasses.fields(member) if f.name not in ("parent", "name", "classes", "dtype")]
    return {f.name: None if f.default is dataclasses.MISSING else f.default for f in settable}


@functools.cache
def hints(member: type) -> dict[str, Any]:
    """Returns the types of the fields of a Linen module that a config may set; `Any` for those it cannot resolve."""
    try:
        resolved = typing.get_type_hints(member)
    except NameError:  # names that are imported for a type checker alone
        resolved = {}
    return {name: resolved.get(name, Any) for name in fields(member)}


def make(kind: str, name: str, arguments: Mapping[str, Any], **given: Any):
    """Makes a module from config keys.

    Raises:
        UserError: for an unknown name or key, and a value of another type than the default.
    """
    member = find(kind, name)
    defaults = fields(member)
    for key, value in arguments.items():
        if key not in defaults:
            raise unknown(f"{kind} {name!r}: key", key, defaults)
        check_kind(f"{kind} {name!r}: {key}", value, defaults[key])
    try:
        return member(**arguments, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind} {name!r} refuses {dict(arguments)}: {error}") from error


def dtype(name: str):
    """Returns the compute dtype of that name."""
    defaults = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name not in defaults:
        raise unknown("dtype", name, defaults)
    return defaults[name]
