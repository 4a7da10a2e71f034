"""Signals: the first one only sets the flag of the run, nothing is swallowed, and the handlers are restored."""

import os
import signal
import subprocess
import sys

import pytest
from jax.experimental import multihost_utils

from jaxdistill.errors import Interrupted
from jaxdistill.runtime import preemption
from jaxdistill.runtime.preemption import StopSignal


def run(stage, stop=None):
    """Runs a function of the flag as the stages of a run."""
    with stop or StopSignal() as stop:
        stage(stop)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_requests_a_stop_and_ends_the_block(number):
    def stage(stop):
        assert not stop.is_requested()
        signal.raise_signal(number)
        assert stop.is_requested()
        assert stop.signal == number

    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as error:
        run(stage)
    assert error.value.status == 128 + number
    assert signal.getsignal(number) == before


def test_a_second_interrupt_stops_at_once():
    def stage(stop):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.is_requested()
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(stage)


def test_a_signal_after_the_last_check_is_not_swallowed():
    def stage(_):
        preemption.check()
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"stopped by a signal in the run; .* The same command again continues"):
        run(stage)


def test_an_error_is_not_replaced_by_the_signal():
    def stage(_):
        signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(stage)


def test_items_are_checked_one_by_one():
    passed = []

    def stage(stop):
        stop.place = "stage 'cache'"
        for item in preemption.checked(range(5)):
            passed.append(item)
            if item == 1:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="in stage 'cache'"):
        run(stage)
    assert passed == [0, 1]


def test_without_a_run_nothing_is_requested():
    preemption.check()
    assert not preemption.is_requested()


def test_calls_of_the_sync_point_grow_by_one_from_stage_to_stage_and_run_to_run(monkeypatch):
    calls = []
    monkeypatch.setattr(preemption, "_num_processes", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", calls.append)
    for _ in range(2):
        with StopSignal() as stop:
            for place in ("stage 'teacher'", "stage 'distil'"):
                stop.place = place
                preemption.check()
                assert not stop.is_requested()
    assert len(calls) == 8
    assert calls == [*range(calls[0], calls[0] + 8)]
    assert calls[0] >= 1


def test_all_processes_stop_where_the_sync_point_is_reached(monkeypatch):
    """The notice of one process reaches the others through JAX alone."""
    monkeypatch.setattr(preemption, "_num_processes", lambda: 2)
    reached = iter([False, False, True])

    def stage(stop):
        assert [stop.is_requested() for _ in range(4)] == [False, False, True, True]

    with pytest.raises(Interrupted) as error:
        run(stage, StopSignal(lambda _: next(reached)))
    assert error.value.status == 143


def test_ctrl_c_in_one_of_several_processes_becomes_a_notice(monkeypatch):
    sent = []
    monkeypatch.setattr(preemption, "_num_processes", lambda: 2)
    monkeypatch.setattr(preemption.os, "kill", lambda *arguments: sent.append(arguments))
    reached = iter([False, True])
    before = signal.getsignal(signal.SIGTERM)

    def stage(stop):
        assert signal.getsignal(signal.SIGTERM) == before  # JAX's
        signal.raise_signal(signal.SIGINT)
        assert sent == [(os.getpid(), signal.SIGTERM)]
        assert [stop.is_requested() for _ in range(2)] == [False, True]

    with pytest.raises(Interrupted) as error:
        run(stage, StopSignal(lambda _: next(reached)))
    assert error.value.status == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("inside", ["exit_on_signal('bye')", "exit_on_signal('bye'), StopSignal(), losing_nothing()"])
def test_outside_of_a_stage_the_process_ends_at_once_with_one_line(number, inside):
    """Also in a call that never returns to Python's handlers, such as of a compiler."""
    code = "import signal, threading\nfrom jaxdistill.runtime.preemption import *\n"
    code += f"with {inside}:\n    threading.Timer(0.1, signal.raise_signal, ({int(number)},)).start()\n"
    code += "    import ctypes\n    ctypes.CDLL(None).sleep(30)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stderr) == (128 + number, "bye\n")


def test_exit_on_signal_restores_the_handlers():
    before = [signal.getsignal(number) for number in preemption.NUMBERS]
    with preemption.exit_on_signal("bye"):
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_requested()
            stop.signal = None
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in preemption.NUMBERS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_the_status_of_a_finished_command_stands():
    code = "import atexit, signal\nfrom jaxdistill.runtime import preemption\n"
    code += "atexit.register(lambda: [signal.raise_signal(number) for number in preemption.NUMBERS])\n"
    code += "with preemption.exit_on_signal('bye'):\n    preemption.ignore_signals()\n"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stderr) == (0, "")
