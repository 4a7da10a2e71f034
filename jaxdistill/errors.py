"""Mistakes that a user can mend, told in one message: what is wrong, what there is, what to do."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class UserError(Exception):
    """A mistake in a config, a path, a dataset or a checkpoint; `launch` prints it and exits with status 2."""


class TrainingFailed(Exception):
    """Training cannot go on (a loss that is not finite); `launch` prints it and exits with status 1."""


class Interrupted(Exception):
    """A signal stopped the run after its state was saved; `status` is the exit status that signal asks for."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


def unknown(kind: str, name: str, options: Iterable[str]) -> UserError:
    """Returns `no method 'ddk'; did you mean 'dkd'? there are ['dkd', 'kd']`, to be raised."""
    options = sorted(map(str, options))
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"no {kind} {name!r}; {hint}there are {options}")


def check_names(kind: str, names: Iterable[str], options: Iterable[str]) -> None:
    """Raises `UserError` for the first of `names` that is not one of `options`."""
    options = list(options)
    for name in names:
        if name not in options:
            raise unknown(kind, name, options)


def check_kind(what: str, value: Any, default: Any) -> None:
    """Raises `UserError` where a setting is not of its default's kind; `None` as default takes anything."""
    if default is None:
        return
    kinds = (int, float) if isinstance(default, float) else type(default)
    kinds = (tuple, list) if isinstance(default, tuple) else Mapping if isinstance(default, Mapping) else kinds
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        kind = "section" if isinstance(default, Mapping) else type(default).__name__
        raise UserError(f"{what}={value!r} is a {type(value).__name__}; it is a {kind}, like {default!r}")


def check_share(what: str, value: float) -> None:
    """Raises `UserError` for what is not a share below the whole."""
    if not 0 <= value < 1:
        raise UserError(f"{what}={value} makes no sense; it is a share: 0 or more, less than 1")


def check_least(what: str, value: float, least: float) -> None:
    """Raises `UserError` for what is smaller than it may be, or not finite."""
    if not least <= value < float("inf"):
        raise UserError(f"{what}={value} makes no sense; it is {least} or more, and finite")


def check_positive(what: str, value: float) -> None:
    """Raises `UserError` for what is not greater than 0 and finite, as a temperature is."""
    if not 0 < value < float("inf"):
        raise UserError(f"{what}={value} makes no sense; it is greater than 0 and finite")


def check_between(what: str, value: float, least: float, most: float) -> None:
    """Raises `UserError` for what is smaller or greater than it may be."""
    if not least <= value <= most:
        raise UserError(f"{what}={value} makes no sense; it is between {least} and {most}")
