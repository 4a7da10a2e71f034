"""The meeting of a job's processes before JAX joins them, so that none waits for one that has ended.

JAX itself waits five minutes for a process that was stopped before it joined, and names none. Here process 0 listens at
the coordinator's address until all others have connected. If one of them ends, the rest get a message, and all end.
"""

import contextlib
import selectors
import socket
import sys
import time
from collections.abc import Iterable, Iterator

from jaxdistill.errors import UserError

ALL = "all"
"""The line that process 0 sends when every process has connected; in its place may be the message of an error."""

LATE = 10
"""Seconds for which process 0 of a job that fails answers those that are still starting."""

AGAIN = "Its own output has the cause. Start the same command on every host again"


def meet(address: str, count: int, index: int, *, patience: float, silence: float) -> None:
    """Returns when all processes of a job have started.

    Args:
        address: HOST:PORT of process 0.
        count: the number of processes.
        index: of this process.
        patience: seconds to wait for the others.
        silence: seconds after which process 0 prints which processes it waits for.

    Raises:
        UserError: if a process ends before all have started, does not start, or has an index of another or of none.
    """
    if not index:
        _gather(int(address.rpartition(":")[2]), count, patience=patience, silence=silence)
        return
    answer = ""
    with connect(address, patience) as link, contextlib.suppress(OSError):
        link.settimeout(2 * patience)
        link.sendall(f"{index}\n".encode())
        answer = link.makefile(encoding="utf-8").readline().strip()
    if answer != ALL:
        raise UserError(answer or _gone(0))


def connect(address: str, patience: float) -> socket.socket:
    """Returns a connection to process 0, or raises `UserError` if nothing answers at the address of a coordinator."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=patience)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"--coordinator must be the address of process 0, got {address}, where nothing has answered for"
                    f" {patience} s ({error.strerror or error}). Start process 0 there with the same flags"
                ) from error
        time.sleep(min(1.0, patience / 10))


def _gather(port: int, count: int, *, patience: float, silence: float) -> None:
    """Waits for the other processes, and sends each the outcome."""
    links: dict[int, socket.socket] = {}
    with _listen(port) as server:
        try:
            _admit_all(server, links, count, patience=patience, silence=silence)
        except UserError as error:
            _send(links.values(), str(error))
            _send(_late(server, count - 1 - len(links)), str(error))
            raise
    _send(links.values(), ALL)


def _admit_all(
    server: socket.socket, links: dict[int, socket.socket], count: int, *, patience: float, silence: float
) -> None:
    began, is_reported = time.monotonic(), False
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        while True:
            missing = [index for index in range(1, count) if index not in links]
            ready = selector.select(min(0.5, silence) if missing else 0)
            if not (missing or ready):  # all are here, and none has ended
                return
            waited = time.monotonic() - began
            if waited > patience:
                raise UserError(
                    f"the {count} processes of the job must start within {patience} s of each other, got none with"
                    f" --process in {missing}. Start the same command on every host"
                )
            if waited > silence and not is_reported:
                print(
                    f"waiting for the processes {missing} of {count}, which start with the same command",
                    file=sys.stderr,
                )
                is_reported = True
            for key, _ in ready:
                if key.fileobj is server:
                    selector.register(server.accept()[0], selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket) and not _admit(key.fileobj, links, count):
                    selector.unregister(key.fileobj)


def _late(server: socket.socket, count: int) -> Iterator[socket.socket]:
    """Yields the connections of processes that are still starting while the job fails, for `LATE` seconds."""
    deadline = time.monotonic() + LATE
    with contextlib.suppress(TimeoutError):
        for _ in range(count):
            server.settimeout(max(0.01, deadline - time.monotonic()))
            yield server.accept()[0]


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _admit(link: socket.socket, links: dict[int, socket.socket], count: int) -> bool:
    """Adds the process that writes its index, and raises `UserError` for one that ends; False if it is no process."""
    try:
        text = link.recv(64).decode(errors="replace").strip()
    except OSError:
        text = ""
    if link in links.values() and not text:
        raise UserError(_gone(next(number for number, process in links.items() if process is link)))
    if not text.isdigit():
        link.close()
        return False
    index = int(text)
    if not 0 < index < count or index in links:
        links[-1 - len(links)] = link  # it gets the message as well
        is_repeated = index in links
        raise UserError(
            f"--process must be another number of each process, got {index} twice. Number them from 0 to {count - 1}"
            if is_repeated
            else f"--processes must be the same in every process, got {count} in process 0, and a process {index}"
        )
    links[index] = link
    return True


def _gone(index: int) -> str:
    return f"process {index} must stay until all processes of the job have started, got its end before that. {AGAIN}"


def _send(links: Iterable[socket.socket], text: str) -> None:
    for link in links:
        with contextlib.suppress(OSError), link:
            link.sendall(f"{text}\n".encode())
