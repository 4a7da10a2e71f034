"""Ownership of a workdir: one launch at a time writes into it.

The owner's record is the file `.owner` in the workdir. A record is void once its process is gone: on the same host, if
no process has that number and start time; on another host, if its owner has not renewed the file for `PATIENCE`
seconds. So a launch that was killed never blocks the next one, wherever that one starts.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import IO

from jaxdistill.errors import UserError

FILE = ".owner"
"""The file of the owner's record, in the workdir."""

RENEWAL = 5.0
"""Seconds between renewals of the record, which launches on other hosts watch."""

PATIENCE = 30.0
"""Seconds without a renewal after which an owner on another host counts as gone."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """The process that owns a workdir.

    Attributes:
        process: its number.
        host: the name of its host.
        start: its start by the host's clock of processes; "" on systems without /proc.
        time: the time of the launch.
    """

    process: int
    host: str
    start: str
    time: str


@contextlib.contextmanager
def own_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Owns an existing workdir in the `with` block.

    Raises:
        UserError: if another launch owns it.
        OSError: if it cannot be written.
    """
    path = workdir / FILE
    current = this_process()
    _acquire(path, current)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with contextlib.suppress(OSError), _locked(path) as file:
            if _read(file) == current:  # no other host's, which took this process for gone
                path.unlink()


def _acquire(path: pathlib.Path, current: Owner) -> None:
    """Writes the record of this process, unless that of a living one is there."""
    with _locked(path) as file:
        owner = _read(file)
        if owner is None or not _is_alive(owner, path):
            file.seek(0)
            file.truncate()
            file.write(json.dumps(dataclasses.asdict(current)) + "\n")
            file.flush()
            return
    remedy = f"stop it (kill {owner.process} on {owner.host})"
    raise UserError(
        f"{path.parent} must be the workdir of one launch at a time, and process {owner.process} on host"
        f" {owner.host} has it since {owner.time}. Wait for its end, {remedy}, or name another workdir with --workdir"
    )


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[IO[str]]:
    """Opens the record; of several launches at once, one reads and writes it after the other."""
    while True:
        with path.open("a+", encoding="utf-8") as file:
            with contextlib.suppress(OSError):  # file systems without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_same(file, path):
                file.seek(0)
                yield file
                return


def _is_same(file: IO[str], path: pathlib.Path) -> bool:
    """Whether the open file is still the one at `path`: its owner removes it at the end."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _read(file: IO[str]) -> Owner | None:
    """Returns the owner of a record; `None` for an incomplete one, whose writer was killed."""
    try:
        return Owner(**json.loads(file.read()))
    except (ValueError, TypeError):
        return None


def this_process() -> Owner:
    """Returns the record of this process."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Owner(os.getpid(), socket.gethostname(), start_of(os.getpid()), now)


def start_of(process: int) -> str:
    """Returns the start of a process of this host in clock ticks since boot; "" if it is not available."""
    try:
        content = pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = content.rpartition(")")[2].split()  # the name before it may contain spaces
    return "" if state in "ZX" else fields[18]  # field 22 of proc(5); a zombie has ended


def _is_alive(owner: Owner, path: pathlib.Path) -> bool:
    if owner.host != socket.gethostname():
        return _is_renewed(path)
    if pathlib.Path("/proc/self/stat").exists():
        return bool(owner.start) and start_of(owner.process) == owner.start
    try:
        os.kill(owner.process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _is_renewed(path: pathlib.Path) -> bool:
    """Whether the owner, on another host, renews its record; clocks of hosts may differ, so that none is read."""
    first, deadline = _renewed_at(path), time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(min(1.0, PATIENCE / 10))
        if _renewed_at(path) != first:
            return True
    return False


def _renewed_at(path: pathlib.Path) -> int:
    with path.open("rb") as file:  # NFS renews its copy of a file's times when the file is opened
        return os.fstat(file.fileno()).st_mtime_ns


def _renew(path: pathlib.Path, ended: threading.Event) -> None:
    while not ended.wait(RENEWAL):
        with contextlib.suppress(OSError):
            os.utime(path)
