"""Preemption: SIGTERM and Ctrl-C end a run after its state is saved.

A command has two phases. While `StopSignal` is active a signal sets the flag of the run, and `check` ends the run at
the next place where nothing is lost. Outside of it, `exit_on_signal` ends the process at once with one message.
"""

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

from jaxdistill.errors import Interrupted
from jaxdistill.runtime import distributed

NUMBERS = (signal.SIGTERM, signal.SIGINT)

Item = TypeVar("Item")

_calls = itertools.count(1)
"""Numbers of the calls of JAX's sync point, which must grow by one from call to call for the life of the process."""

_active: list["StopSignal"] = []
"""The flag of the run; empty if none is active."""

_messages: list[str] = []
"""The message of `exit_on_signal`; empty if the process is not a command's."""


class StopSignal:
    """The flag of a run: the first signal sets it, and a second Ctrl-C interrupts at once.

    In a job of several processes JAX's own notifier receives SIGTERM, so that all of them agree on the moment. Ctrl-C
    in one process is passed on as SIGTERM.

    Args:
        is_reached: `number of the call -> whether to stop`; JAX's sync point of all processes by default.

    Attributes:
        signal: the number of the signal after which the run stops, `None` before.
        place: a noun for the running stage, for messages.
    """

    def __init__(self, is_reached: Callable[[int], bool] | None = None):
        self.signal: int | None = None
        self.place = "the run"
        self._is_reached = is_reached or _is_sync_point
        self._received: int | None = None
        self._handlers: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> "StopSignal":
        self._is_alone = _num_processes() == 1
        if threading.current_thread() is threading.main_thread():
            self._wakeup = signal.set_wakeup_fd(-1)
            for number in NUMBERS if self._is_alone else (signal.SIGINT,):
                self._handlers[number] = signal.signal(number, self._receive)
        _active.append(self)
        return self

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._received == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number
        if self._is_alone:
            self.signal = number
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # to JAX's notifier

    def is_requested(self) -> bool:
        """Whether to stop now; all processes call this equally often and get the same answer."""
        if self.signal is None and self._is_reached(next(_calls)):
            self.signal = self._received or signal.SIGTERM
        return self.signal is not None

    def interrupted(self, message: str = "") -> Interrupted:
        """Returns the error that ends the run."""
        message = message or f"stopped by a signal in {self.place}; what it has finished is saved."
        return Interrupted(
            f"{message} The same command again continues from there.", status=128 + (self.signal or signal.SIGTERM)
        )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _active.remove(self)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._handlers:
            signal.set_wakeup_fd(self._wakeup)
        if kind is None and self.signal is not None:  # it came after the last check
            raise self.interrupted()


def is_requested() -> bool:
    """Whether the run stops now; all processes call this equally often and get the same answer."""
    return bool(_active) and _active[-1].is_requested()


def interrupted(message: str) -> Interrupted:
    """Returns the error that ends the run, with the signal's status."""
    return (_active[-1] if _active else StopSignal()).interrupted(message)


def check() -> None:
    """Raises `Interrupted` if the run stops; called by all processes where nothing is lost, such as between batches."""
    if is_requested():
        raise _active[-1].interrupted()


def checked(items: Iterable[Item]) -> Iterator[Item]:
    """Yields the items, each after a `check`."""
    for item in items:
        check()
        yield item


def _num_processes() -> int:
    """Returns the number of processes, without the import of JAX if there is one."""
    return sys.modules["jax"].process_count() if distributed.is_joined() else 1


def _is_sync_point(call: int) -> bool:
    if _num_processes() == 1:
        return False
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(call)


@contextlib.contextmanager
def exit_on_signal(message: str) -> Iterator[None]:
    """Ends the process at once on a signal within the `with` block, with the message.

    A thread does it, because a handler waits for compiled code to return, and its exception inside an import may be
    lost or become another one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def leave() -> None:
        for number in os.read(reading, 1):
            os.write(2, f"{message}\n".encode())
            os._exit(128 + number)

    thread = threading.Thread(target=leave, daemon=True)
    thread.start()

    def wait(*_: object) -> None:
        """Leaves the signal to the thread."""

    handlers = {number: signal.signal(number, wait) for number in NUMBERS}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _messages.append(message)
    try:
        yield
    finally:
        _messages.pop()
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            is_of_jax = number == signal.SIGTERM and distributed.is_joined()
            if signal.getsignal(number) is wait and not is_of_jax:
                signal.signal(number, handler)
        os.close(writing)
        thread.join()
        os.close(reading)


def ignore_signals() -> None:
    """Lets the status of a finished command of one process stand while the interpreter shuts down."""
    if _num_processes() == 1:
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def losing_nothing(applies: bool = True) -> Iterator[None]:
    """Lets a signal end a command of one process at once, in a long call after which nothing would be saved."""
    if applies and _messages and _num_processes() == 1:
        check()
        with exit_on_signal(_messages[-1]):
            yield
    else:
        yield
