"""Promises, their results, and the function that collects results."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import jax
import numpy as np

from jaxdistill.errors import UserError

S = TypeVar("S")
"""Type of what a promise is checked on."""

LONGEST = 240
"""Number of characters of a reason, which is one line."""


class BrokenPromise(AssertionError):
    """A promise that does not hold; the message is the reason."""


class NotApplicable(Exception):
    """A promise that is of other members; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Promise(Generic[S]):
    """A property that every member of a room has.

    Attributes:
        name: the property as a sentence without a full stop.
        check: raises `BrokenPromise`, or any other exception, if it does not hold, and `NotApplicable` for members
            that it is not about.
    """

    name: str
    check: Callable[[S], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of one promise.

    Attributes:
        name: of the promise.
        status: "ok", "FAIL" or "skip".
        reason: of a status other than "ok", one line.
    """

    name: str
    status: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.status:4} {self.name}" + (f": {self.reason}" if self.reason else "")


def run(promises: Iterable[Promise[S]], make_subject: Callable[[], S]) -> Iterator[Result]:
    """Checks promises one after the other.

    Args:
        promises: of one room.
        make_subject: makes what they are checked on; if it raises, that is the only result.

    Yields:
        One result per promise.
    """
    try:
        subject = make_subject()
    except Exception as error:  # a user's class may raise anything
        yield Result("it can be made and fits one of the toy tasks", "FAIL", describe_error(error))
        return
    for promise in promises:
        try:
            promise.check(subject)
        except NotApplicable as reason:
            yield Result(promise.name, "skip", str(reason))
        except Exception as error:
            yield Result(promise.name, "FAIL", describe_error(error))
        else:
            yield Result(promise.name, "ok")


def describe_error(error: Exception) -> str:
    """Returns the type and message of an exception on one line."""
    text = " ".join(str(error).split())
    line = text if isinstance(error, AssertionError | UserError) and text else f"{type(error).__name__}: {text}"
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ..."


def require(condition: bool | np.bool_ | jax.Array, reason: str) -> None:
    """Raises `BrokenPromise` with a reason unless a condition holds."""
    if not condition:
        raise BrokenPromise(reason)


def require_finite(tree: object, what: str) -> None:
    """Raises `BrokenPromise` unless all numbers of a tree are finite."""
    require(all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(tree))), f"{what} must be finite")


def require_close(actual: object, expected: object, what: str, *, rtol: float, atol: float = 0.0) -> None:
    """Raises `BrokenPromise` unless the leaves of two trees agree within `rtol` of the expected ones plus `atol`."""
    for left, right in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        try:
            np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)
        except AssertionError as error:
            raise BrokenPromise(f"{what}: {error}") from error
