"""Errors that nothing can catch: those of closed event loops are not printed, and others are."""

import sys
from types import SimpleNamespace

from jaxdistill.runtime import event_loops


def test_only_closed_loops_are_ignored_and_the_hook_is_restored(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: printed.append(str(unraisable.exc_value)))
    usual = sys.unraisablehook
    with event_loops.ignore_closed():
        for message in ("Event loop is closed", "disk full"):
            sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(message)))
    assert printed == ["disk full"]
    assert sys.unraisablehook is usual
