"""Event loops that Orbax leaves open when a read fails."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def ignore_closed() -> Iterator[None]:
    """Does not print the traceback of an event loop that is closed when the garbage collector finds it.

    The message of the failed read names the damage and the remedy; this traceback would follow at any later time.
    """
    usual = sys.unraisablehook

    def print_others(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            usual(unraisable)

    sys.unraisablehook = print_others
    try:
        yield
    finally:
        sys.unraisablehook = usual
