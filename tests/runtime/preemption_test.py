"""Signals: the first one only sets a flag, and the handlers are restored."""

import signal

import pytest

from jaxdistill.runtime.preemption import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_requests_a_stop_after_the_step(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.is_requested(1)
        signal.raise_signal(number)
        assert stop.is_requested(2)
        assert stop.signal == number
    assert signal.getsignal(number) == before


def test_a_second_interrupt_stops_at_once():
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.is_requested(1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
