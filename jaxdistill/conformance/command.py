"""The command that checks the promises of one class or registered name."""

import argparse
import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import flax.linen as nn

from jaxdistill.build.kind import Kind
from jaxdistill.compress.view import View
from jaxdistill.config import registry
from jaxdistill.conformance import promise
from jaxdistill.core import Method
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import Source
from jaxdistill.tasks.task import Task

BASES = {"method": Method, "model": nn.Module, "network": Source, "kind": Kind, "task": Task, "view": View}
"""Base class of each room's members; a method is a Linen module too, so that it comes first."""

FILES = {
    "method": "methods",
    "model": "models",
    "network": "sources",
    "kind": "kinds",
    "task": "tasks",
    "metric": "metrics",
    "dataset": "datasets",
    "view": "views",
}
"""Room -> file of its promises."""

ROOMS = [*FILES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line per promise of a member.

    Returns:
        The exit status: 0, 1 if a promise is broken, 2 if the name is of no room.
    """
    options = _parse(arguments)
    try:
        results = check(options.name, options.room, dict(map(_parse_field, options.fields)))
        statuses = []
        for result in results:
            print(result, flush=True)
            statuses.append(result.status)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return int("FAIL" in statuses)


def check(name: str, room: str, fields: dict[str, Any]) -> Iterator[promise.Result]:
    """Checks the promises of a member.

    Args:
        name: registered, or `"package.module:Name"`.
        room: a key of `registry.ROOMS`; found from the member if empty.
        fields: other values than the defaults.

    Yields:
        One result per promise.

    Raises:
        UserError: for a name that cannot be imported, or is of no room or several.
    """
    room = room or find_room(name)
    member = registry.find(room, name, "NAME")
    promises = _promises(room)
    yield from promise.run(promises.PROMISES, functools.partial(promises.make_subject, member, **fields))


def find_room(name: str) -> str:
    """Returns the only room that a name is of.

    Raises:
        UserError: if it is of none or several.
    """
    if ":" in name:
        return _room_of(registry.import_object(name, "NAME"), name)
    rooms = [room for room in ROOMS if name in registry.names(room)]
    if len(rooms) == 1:
        return rooms[0]
    if rooms:
        raise UserError(f"NAME must be of one room, got {name!r}, which is in {rooms}. Add --room {rooms[0]}")
    raise unknown("NAME", name, {option for room in ROOMS for option in registry.names(room)}, "a registered name")


def _room_of(member: object, name: str) -> str:
    if isinstance(member, type):
        for room, base in BASES.items():
            if issubclass(member, base):
                return room
    if hasattr(member, "sums") or hasattr(member, "finish"):
        return "metric"
    if inspect.isfunction(member):
        return "dataset"
    raise UserError(f"NAME must be of one of the rooms {ROOMS}, got {name!r}, which is {member!r}. See README.md")


def _promises(room: str) -> ModuleType:
    return importlib.import_module(f"jaxdistill.conformance.{FILES[room]}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxdistill.conformance", description="Checks the promises of a method, model, metric, ..."
    )
    parser.add_argument("name", metavar="NAME", help="a registered name, or package.module:Name")
    parser.add_argument("fields", metavar="FIELD=VALUE", nargs="*", help="another value than a field's default")
    parser.add_argument("--room", choices=ROOMS, default="", help="for a name that is in several rooms")
    return parser.parse_intermixed_args(arguments)


def _parse_field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UserError(f"a field must be written FIELD=VALUE, got {text!r}. Write for example layers=2")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
