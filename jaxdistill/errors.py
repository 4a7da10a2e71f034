"""Errors that a user can fix, and checks that raise them: `PATH must be CONSTRAINT, got VALUE. FIX.`"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class UserError(Exception):
    """A mistake in a config, a path, a dataset or a checkpoint; `launch` prints it and exits with status 2."""


class TrainingFailed(Exception):
    """Training cannot go on (a loss that is not finite); `launch` prints it and exits with status 1."""


class Interrupted(Exception):
    """A signal stopped the run after its state was saved; `status` is the exit status for that signal."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def unknown(path: str, name: object, options: Iterable[object], what: str = "an existing name") -> UserError:
    """Returns the error `terms.kd.method must be a method, got 'ddk'. Did you mean 'dkd'? There are ['dkd', 'kd']`.

    Args:
        path: the key that holds the name, or a noun for what it names.
        name: the value that is not one of `options`.
        options: the existing names.
        what: a noun for an option, with its article.
    """
    options = sorted(map(str, options))
    lower = {option.lower(): option for option in reversed(options)}
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    near = near or [lower[match] for match in difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)]
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return UserError(f"{path} must be {what}, got {name!r}. {hint}There are {options}")


def check_names(path: str, names: Iterable[object], options: Iterable[object]) -> None:
    """Raises `UserError` for the first of `names` that is not one of `options`."""
    options = list(options)
    for name in names:
        if name not in options:
            raise unknown(path, name, options)


def check_kind(path: str, value: object, default: object) -> None:
    """Raises `UserError` if a setting is of another type than its default; `None` as default permits any."""
    if default is None:
        return
    kinds = (int, float) if isinstance(default, float) else type(default)
    kinds = (tuple, list) if isinstance(default, tuple) else Mapping if isinstance(default, Mapping) else kinds
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        kind = "section" if isinstance(default, Mapping) else type(default).__name__
        example = f" such as {default!r}" if default not in ((), "") and default != {} else ""
        raise UserError(f"{path} must be {article(kind)}{example}, got {value!r} ({type(value).__name__})")


def article(noun: str) -> str:
    """Returns a noun with "a" or "an"."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def check_fraction(path: str, value: float) -> None:
    """Raises `UserError` for a value outside [0, 1)."""
    if not 0 <= value < 1:
        raise UserError(f"{path} must be in [0, 1), got {value}")


def check_least(path: str, value: float, least: float) -> None:
    """Raises `UserError` for a value below `least`, or not finite."""
    if not least <= value < float("inf"):
        raise UserError(f"{path} must be at least {least} and finite, got {value}")


def check_positive(path: str, value: Any) -> None:
    """Raises `UserError` for a value that is not positive and finite."""
    if not 0 < value < float("inf"):
        raise UserError(f"{path} must be greater than 0 and finite, got {value}")


def check_between(path: str, value: float, least: float, most: float) -> None:
    """Raises `UserError` for a value outside [least, most]."""
    if not least <= value <= most:
        raise UserError(f"{path} must be in [{least}, {most}], got {value}")
