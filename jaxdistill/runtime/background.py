"""Failures in background threads of libraries, for which a run has one message.

Orbax and TensorBoard write in threads of their own. If a disk is full, each of these threads prints a traceback, and
so does an event loop that Orbax leaves open, at any later time.
"""

import contextlib
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

    Closed event loops are not printed either, since the message of the failed read names the damage and the remedy.
    """
    from absl import logging as absl_logging

    usual_unraisable, usual_thread = sys.unraisablehook, threading.excepthook

    def print_others(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            usual_unraisable(unraisable)

    def keep_failures(thread: threading.ExceptHookArgs) -> None:
        if thread.exc_value is not None and failures.describe(thread.exc_value):
            _failed.append(thread.exc_value)
        else:
            usual_thread(thread)

    logger = absl_logging.get_absl_logger()
    sys.unraisablehook, threading.excepthook = print_others, keep_failures
    logger.addFilter(_is_no_failure)
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = usual_unraisable, usual_thread
        logger.removeFilter(_is_no_failure)
        _failed.clear()


def _is_no_failure(record: logging.LogRecord) -> bool:
    exception = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return exception is None or failures.describe(exception) is None


def check() -> None:
    """Raises the first failure of a background thread, if there is one."""
    if _failed:
        raise _failed[0]
