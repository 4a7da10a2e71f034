"""Batches come in order, before they are needed; and only a device with nothing to do has waited."""

import threading
import time

import pytest

from jaxdistill.train.prefetch import Prefetcher


class Running:
    """What a dispatch will return."""

    def __init__(self):
        self.done = False

    def is_ready(self):
        return self.done


@pytest.mark.parametrize("ahead", [0, 2])
def test_all_batches_in_order(ahead):
    made = Prefetcher(iter(range(20)), ahead, print)
    assert [made.next(None)[0] for _ in range(20)] == [*range(20)]
    made.close()


def test_batches_are_drawn_while_the_device_works():
    drawn, third = [], threading.Event()

    def batches():
        for number in range(6):
            drawn.append(number)
            if number == 3:
                third.set()
            yield number

    made = Prefetcher(batches(), 2, print)
    assert made.next(None)[0] == 0
    assert third.wait(30)  # without being asked: two are there, the next is drawn
    time.sleep(0.05)
    assert drawn == [0, 1, 2, 3]
    made.close()


@pytest.mark.parametrize(("ahead", "done"), [(0, True), (0, False), (2, True), (2, False)])
def test_waiting_counts_where_the_device_has_nothing_to_do(ahead, done):
    def batches():
        yield 0
        time.sleep(0.2)
        yield 1

    made, running = Prefetcher(batches(), ahead, print), Running()
    made.next(None)
    running.done = done
    _, waited = made.next(running)
    assert (waited > 0.1) == done
    assert done or waited == 0.0
    made.close()


def test_the_wait_begins_when_the_device_is_done():
    gate, running = threading.Event(), Running()

    def batches():
        gate.wait(30)
        yield 0

    made = Prefetcher(batches(), 1, print)
    threading.Timer(0.3, lambda: setattr(running, "done", True)).start()
    threading.Timer(0.6, gate.set).start()
    began = time.perf_counter()
    _, waited = made.next(running)
    assert 0.0 < waited < time.perf_counter() - began - 0.1
    made.close()


def test_a_source_that_gives_nothing_is_reported():
    gate, said = threading.Event(), []

    def batches():
        gate.wait(30)
        yield 0

    def say(message):
        said.append(message)
        gate.set()

    made = Prefetcher(batches(), 1, say, late_seconds=0.05)
    assert made.next(None)[0] == 0
    assert said[0].startswith("no data came for")
    made.close()


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_of_the_source_is_raised_where_its_batch_is_requested(ahead):
    def batches():
        yield 0
        raise OSError("disk")

    made = Prefetcher(batches(), ahead, print)
    assert made.next(None)[0] == 0
    with pytest.raises(OSError, match="disk"):
        made.next(None)
    made.close()


def test_closing_ends_the_thread():
    made = Prefetcher(iter(range(100)), 2, print)
    made.next(None)
    made.close()
    made._thread.join(10)
    assert not made._thread.is_alive()
