"""Failures in background threads of libraries, for which a run has one message.

Orbax writes in threads of its own. If a disk is full, each of them prints a traceback, and so does an event loop that
Orbax leaves open, at any later time.
"""

import contextlib
import inspect
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

from jaxdistill.runtime import failures

_failed: list[BaseException] = []


@contextlib.contextmanager
def watch() -> Iterator[None]:
    """Does not print failures of the machine in background threads; `check` raises them.

    What Orbax leaves of a failed read (event loops, coroutines, tasks) is not printed either, since the message of the
    read names the damage and the remedy.
    """
    from absl import logging as absl_logging

    usual_unraisable, usual_thread = sys.unraisablehook, threading.excepthook

    def print_others(unraisable: Any) -> None:
        closed = "Event loop is closed" in str(unraisable.exc_value)
        if not closed and not inspect.iscoroutine(getattr(unraisable, "object", None)):
            usual_unraisable(unraisable)

    def keep_failures(thread: threading.ExceptHookArgs) -> None:
        if thread.exc_value is not None and failures.describe(thread.exc_value):
            _failed.append(thread.exc_value)
        else:
            usual_thread(thread)

    loggers = absl_logging.get_absl_logger(), logging.getLogger("asyncio")
    sys.unraisablehook, threading.excepthook = print_others, keep_failures
    for logger in loggers:
        logger.addFilter(_is_news)
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = usual_unraisable, usual_thread
        for logger in loggers:
            logger.removeFilter(_is_news)
        _failed.clear()


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record is of no failure that the run itself reports."""
    if "exception was never retrieved" in record.getMessage():  # of further arrays of a damaged checkpoint
        return False
    exception = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return exception is None or failures.describe(exception) is None


def check() -> None:
    """Raises the first failure of a background thread, if there is one."""
    if _failed:
        raise _failed[0]
