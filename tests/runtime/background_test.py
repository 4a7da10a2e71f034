"""Failures in background threads: those of the machine and of closed event loops are not printed, others are."""

import errno
import logging as std_logging
import sys
import threading
from types import SimpleNamespace

import pytest
from absl import logging

from jaxdistill.runtime import background

FULL = OSError(errno.ENOSPC, "No space left on device", "/disk/file")


def fail_in_thread(error):
    def fail():
        raise error

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def test_only_closed_loops_are_ignored_and_the_hook_is_restored(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: printed.append(str(unraisable.exc_value)))
    usual = sys.unraisablehook
    with background.watch():
        for message in ("Event loop is closed", "disk full"):
            sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(message)))
    assert printed == ["disk full"]
    assert sys.unraisablehook is usual


def test_a_full_disk_in_a_thread_is_raised_by_the_next_check_and_not_printed(monkeypatch):
    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda thread: printed.append(str(thread.exc_value)))
    with background.watch():
        background.check()
        for error in (FULL, ValueError("a bug")):
            fail_in_thread(error)
        with pytest.raises(OSError, match="No space left"):
            background.check()
    background.check()  # it belongs to the run that failed
    assert printed == ["a bug"]


def test_a_library_logs_no_traceback_of_a_full_disk(caplog):
    with background.watch():
        for error in (ValueError("Failed writing: No space left on device"), ValueError("a bug")):
            try:
                raise error
            except ValueError:
                logging.exception("a save failed")
    logged = caplog.records.copy()
    with background.watch():
        asyncio_logger = std_logging.getLogger("asyncio")
        asyncio_logger.error("Task exception was never retrieved\nfuture: <Task>")
        asyncio_logger.error("another message")
    assert [record.getMessage() for record in caplog.records[len(logged) :]] == ["another message"]
    assert [str(record.exc_info[1]) for record in logged] == ["a bug"]
