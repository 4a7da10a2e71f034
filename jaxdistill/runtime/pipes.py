"""Pipes that a reader closes early, as in `python -m jaxdistill.conformance NAME | head`."""

import os
import signal
import sys
from collections.abc import Callable

CLOSED = 128 + signal.SIGPIPE
"""The exit status of a command that a closed pipe ends."""


def ending_at_closed_pipe(command: Callable[[], int]) -> int:
    """Returns the exit status of a command, `CLOSED` without a trace if the reader of its output is gone."""
    try:
        status = command()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        discard_output()
        return CLOSED


def discard_output() -> None:
    """Sends further output nowhere: the interpreter flushes once more while it shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
