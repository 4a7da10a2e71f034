"""The meeting of processes: all start, one ends before the others have, one never starts, and wrong numbers."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime import rendezvous


@pytest.fixture
def address():
    with socket.create_server(("", 0)) as free:
        return f"localhost:{free.getsockname()[1]}"


@pytest.fixture(autouse=True)
def never_late(monkeypatch):
    monkeypatch.setattr(rendezvous, "LATE", 0.2)


def outcomes(address, count, indices, patience=20.0, silence=10.0):
    """Returns the message of each process, "" of one that has met the others."""

    def meet(index):
        try:
            rendezvous.meet(address, count, index, patience=patience, silence=silence)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(indices)) as pool:
        return [*pool.map(meet, indices)]


def test_all_meet_in_any_order_and_whatever_else_connects(address):
    def probe():
        with rendezvous.connect(address, 5) as stranger:
            stranger.sendall(b"GET /\r\n")

    stranger = threading.Thread(target=probe)
    stranger.start()
    assert outcomes(address, 3, [2, 0, 1]) == ["", "", ""]
    stranger.join()
    assert outcomes(address, 2, [1, 0]) == ["", ""]  # the port is free again at once


def test_a_process_that_ends_before_all_have_started_is_named_to_the_others(address, monkeypatch):
    """Also to one that starts after that."""
    monkeypatch.setattr(rendezvous, "LATE", 20)

    def end():
        with rendezvous.connect(address, 5) as link:
            link.sendall(b"2\n")
            time.sleep(0.1)
        has_ended.set()

    def start_late():
        has_ended.wait()
        return outcomes(address, 3, [1])

    has_ended = threading.Event()
    ending, began = threading.Thread(target=end), time.monotonic()
    ending.start()
    with ThreadPoolExecutor() as pool:
        second = pool.submit(start_late)
        first = outcomes(address, 3, [0])
        assert first == second.result()
    ending.join()
    assert first[0].startswith("process 2 must stay until all processes of the job have started, got its end before")
    assert time.monotonic() - began < 15


def test_the_end_of_process_0_is_known_at_once(address):
    server = socket.create_server(("", int(address.split(":")[1])))
    ending = threading.Timer(0.2, lambda: (server.accept()[0].close(), server.close()))
    ending.start()
    [message] = outcomes(address, 2, [1])
    ending.join()
    assert message.startswith("process 0 must stay until all")


def test_processes_that_do_not_start_are_named_by_all(address, capsys):
    messages = outcomes(address, 4, [0, 2], patience=1.0, silence=0.1)
    assert messages[0] == messages[1]
    assert "must start within 1.0 s of each other, got none with --process in [1, 3]" in messages[0]
    assert "waiting for the processes [1, 3] of 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1, 1], "--process must be another number of each process, got 1 twice"),
        ([0, 5], "--processes must be the same in every process, got 3 in process 0, and a process 5"),
    ],
)
def test_numbers_that_do_not_fit_are_told_to_all(indices, message, address):
    assert all(message in answer for answer in outcomes(address, 3, indices))
