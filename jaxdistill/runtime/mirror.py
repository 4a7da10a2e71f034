"""A workdir on an object store: a folder of this machine that is written there while a run goes on.

An object store has neither renames, nor appending, nor locks, so that the run writes into a folder of this machine.
Every `INTERVAL` seconds and at the end, what has changed is written to the store:

1. all files except the records of finished stages (`done.json`);
2. the list of the files of checkpoints, `.checkpoints.json`: a step of which a file is missing or not listed is none;
3. the records of stages that were finished before 1 began;
4. files that were removed here are removed there.

What could not be written, as when a login has expired, stays in the folder, and the next launch writes it first.

A single object is there as a whole or not at all. So whenever the process is killed, the store has a state from which
the same command goes on, on any machine.

Of several processes each has a folder of its own. The first one writes all files of the run, and to the store; the
others fetch them from there, at the start and in `share`.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxdistill.errors import Interrupted, UserError
from jaxdistill.runtime import distributed, files, ownership, remote

INTERVAL = 30.0
"""Seconds between two writings."""

STEPS = ".checkpoints.json"
"""The object that lists the files of complete checkpoints, with their sizes."""

DONE = "done.json"
"""The record of a finished stage, in its folder."""

STEP = re.compile(r"(.*/)?checkpoints/\d+/")
"""The start of the path of a file of a checkpoint."""

UNFINISHED = (files.PART, ".orbax-checkpoint-tmp")
"""Ends of names of files and folders that are still being written."""

Objects = Mapping[str, Mapping[str, Any]]

_private: dict[pathlib.Path, "Mirror"] = {}
"""The mirrors of this process that other processes do not see, by their folder."""


@contextlib.contextmanager
def open_workdir(key: str, text: str, log: Callable[[str], None] = print) -> Iterator[pathlib.Path]:
    """Yields the folder of this machine that a run writes into: the workdir itself, or the mirror of a URL.

    Args:
        key: the key or flag that holds it, for messages.
        text: a path or a URL.
        log: prints a line.

    Raises:
        UserError: for a URL that cannot be read or written, or that another launch writes to; of several processes,
            on all of them.
    """
    if not remote.is_url(text):
        yield files.local_path(key, text)
        return
    import jax

    index = jax.process_index()
    with contextlib.ExitStack() as stack:
        with distributed.refuse_together():
            mirror = Mirror(key, remote.open_store(key, text), log, index)
            if not index:
                stack.enter_context(mirror.owned())
                mirror.recover()
                mirror.pull()
        with distributed.refuse_together():
            if index:
                mirror.pull()
        if not index:
            log(f"note: {text} is written from {mirror.folder}, every {INTERVAL:.0f} s and at the end")
            stack.enter_context(mirror.pushed())
        if jax.process_count() > 1:
            _private[mirror.folder] = mirror
            stack.callback(_private.pop, mirror.folder)
        # JAX ends a process that others have left, so that they wait for the last writing of the first one.
        try:
            yield mirror.folder
        except Interrupted:  # all of them are, at one step
            with distributed.refuse_together():
                stack.close()
            raise
        with distributed.refuse_together():
            stack.close()


def is_private(folder: pathlib.Path) -> bool:
    """Whether the other processes do not see a folder of the workdir: its first process alone writes there."""
    return any(folder.is_relative_to(place) for place in _private)


def share(folder: pathlib.Path) -> None:
    """Makes the workdir of every process equal to that of the first, through the store; all processes call it.

    Args:
        folder: the workdir or a folder of it; nothing is done for one that all processes see.

    Raises:
        UserError: if a process cannot write or read the store, on all of them.
    """
    mirrors = [mirror for place, mirror in _private.items() if folder.is_relative_to(place)]
    for mirror in mirrors:
        with distributed.refuse_together():
            if not mirror.index:
                mirror.write()
        with distributed.refuse_together():
            if mirror.index:
                mirror.pull()


class Mirror:
    """The folder of this machine for a workdir of a store.

    Args:
        key: the key or flag that holds the URL, for messages.
        store: the workdir.
        log: prints a line.
        index: the number of this process.
    """

    def __init__(self, key: str, store: remote.Store, log: Callable[[str], None], index: int = 0):
        self._key, self._store, self._log, self.index = key, store, log, index
        # Several processes may run on one machine.
        self.folder = remote.local_folder(f"runs_of_process_{index}" if index else "runs", store.url)
        self._pushing = threading.Lock()
        self._unwritten = self.folder.with_name(f".{self.folder.name}.unwritten.json")
        self._objects: set[str] = set()
        self._written: dict[str, tuple[int, int]] = {}
        self._steps: dict[str, int] | None = None
        self._owner, self._beat, self._lost = dataclasses.asdict(ownership.this_process()), 0, ""

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Owns the workdir of the store in the `with` block.

        Raises:
            UserError: if a launch that is alive owns it.
        """
        with self._errors():
            record = self._read_owner()
            if record is not None and self._is_alive(record):
                raise self._taken(record)
            self._renew()
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                if self._is_own(self._read_owner()):
                    self._store.remove([ownership.FILE])

    def recover(self) -> None:
        """Writes what an earlier launch has left in the folder since it could not write it.

        Raises:
            UserError: if another launch has written to the store since.
        """
        if not self._unwritten.is_file():
            return
        left = files.read_json(self._unwritten, dict, f"Remove it, and {self.folder} becomes what the store has.")
        with self._errors():
            content = self._store.read(STEPS)
            steps = None if content is None else json.loads(content)
            local = {name: size for name, (size, _) in find_files(self.folder).items() if STEP.match(name)}
            if steps not in (left["steps"], local):
                raise UserError(
                    f"{self._key} must have no checkpoints of another launch beside those in {self.folder}, which an"
                    f" earlier launch could not write, got both for {self._store.url!r}. Copy that folder to keep it,"
                    f" and remove {self._unwritten} to go on from the store"
                )
            self._objects, self._steps = {*left["objects"]}, steps
            self.push()
            remote.record_copies(self._store, self.folder)
        self._log(f"note: {self._store.url} has what an earlier launch left in {self.folder}")

    def pull(self) -> None:
        """Makes the folder equal to the store: fetches what differs, and removes what is not there."""
        with self._errors():
            objects = self._store.list()
            content = self._store.read(STEPS)
            steps = None if content is None else json.loads(content)
            wanted = select_complete(objects, steps)
            remote.copy(self._store, self.folder, wanted)
            for name in find_files(self.folder):
                if name not in wanted:
                    (self.folder / name).unlink()
            remove_empty(self.folder)
            self._objects = {*objects} - {STEPS, ownership.FILE}
            self._steps = steps
            self._written = {name: state for name, state in find_files(self.folder).items() if name in wanted}

    @contextlib.contextmanager
    def pushed(self) -> Iterator[None]:
        """Writes the folder to the store at intervals in the `with` block, and at its end.

        Raises:
            UserError: if the last writing fails.
        """
        ended = threading.Event()
        thread = threading.Thread(target=self._repeat, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.write()
            with self._errors():
                remote.record_copies(self._store, self.folder)

    def write(self) -> None:
        """`push`, of which an error is a `UserError`."""
        with self._errors(f" What the run has written is in {self.folder}."):
            self.push()

    def push(self) -> None:
        """Writes to the store what has changed since the last time; `recover` does if it fails."""
        if self._lost:
            raise UserError(self._lost)
        try:
            with self._pushing:
                self._push()
        except BaseException:
            files.write_json(self._unwritten, {"steps": self._steps, "objects": sorted(self._objects)})
            raise
        self._unwritten.unlink(missing_ok=True)

    def _push(self) -> None:
        finished = {path.relative_to(self.folder).as_posix() for path in self.folder.glob(f"*/{DONE}")}
        states = find_files(self.folder)
        changed = [name for name, state in states.items() if self._written.get(name) != state]
        records = [name for name in changed if name.endswith(f"/{DONE}")]
        gone = self._put([name for name in changed if name not in records], states)
        steps = {name: states[name][0] for name in states if STEP.match(name) and name not in gone}
        if steps != self._steps:
            self._store.write(STEPS, json.dumps(steps).encode())
            self._steps = steps
        gone |= self._put([name for name in records if name in finished], states)
        self._store.remove(sorted(self._objects - states.keys()))
        self._objects = {*states} - gone

    def _put(self, names: list[str], states: Mapping[str, tuple[int, int]]) -> set[str]:
        """Writes files; returns those that were removed in the meantime, as old checkpoints are."""
        gone: set[str] = set()
        groups = [names[first : first + remote.GROUP] for first in range(0, len(names), remote.GROUP)]
        while groups:
            group = groups.pop(0)
            try:
                self._store.put(group, self.folder)
                self._written |= {name: states[name] for name in group}
            except FileNotFoundError:
                if len(group) == 1:
                    gone.add(group[0])
                else:
                    groups = [[name] for name in group] + groups
        return gone

    def _repeat(self, ended: threading.Event) -> None:
        last = time.monotonic()
        while not ended.wait(ownership.RENEWAL):
            try:
                self._check_owner()
                if time.monotonic() - last >= INTERVAL:
                    self.push()
                    last = time.monotonic()
            except UserError as error:
                self._log(f"note: {error}")
                return
            except Exception as error:  # libraries of stores raise anything, and the next time may succeed
                line = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                self._log(f"note: {self._store.url} could not be written ({line}), and is tried again")

    def _read_owner(self) -> dict[str, Any] | None:
        content = self._store.read(ownership.FILE)
        try:
            record = json.loads(content or b"")
        except ValueError:
            return None
        return record if isinstance(record, dict) and {"process", "host", "start", "time"} <= record.keys() else None

    def _renew(self) -> None:
        self._beat += 1
        self._store.write(ownership.FILE, json.dumps(self._owner | {"beat": self._beat}).encode())

    def _is_own(self, record: Mapping[str, Any] | None) -> bool:
        return record is not None and all(record.get(key) == value for key, value in self._owner.items())

    def _is_alive(self, record: Mapping[str, Any]) -> bool:
        """Whether the owner's process runs on this host, or renews its record on another one."""
        if record["host"] == socket.gethostname():
            start = ownership.start_of(record["process"])
            return bool(start) and start == record["start"] and record["process"] != os.getpid()
        deadline = time.monotonic() + ownership.PATIENCE
        while time.monotonic() < deadline:
            time.sleep(min(1.0, ownership.PATIENCE / 10))
            if self._read_owner() != record:
                return True
        return False

    def _check_owner(self) -> None:
        """Renews the record, unless another launch has taken the workdir: it took this process for gone."""
        record = self._read_owner()
        if not self._is_own(record):
            self._lost = f"{self._store.url} is no longer written, since {_name(record)} has it"
            raise UserError(self._lost)
        self._renew()

    def _taken(self, record: Mapping[str, Any]) -> UserError:
        return UserError(
            f"{self._key} must be the workdir of one launch at a time, got {self._store.url!r}, which {_name(record)}"
            f" has. Wait for its end, stop it, or name another workdir"
        )

    def _errors(self, then: str = "") -> contextlib.AbstractContextManager[None]:
        return remote.errors(self._key, self._store.url, then)


def _name(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "another launch"
    return f"process {record['process']} on host {record['host']}, since {record['time']},"


def select_complete(objects: Objects, steps: Mapping[str, int] | None) -> dict[str, Mapping[str, Any]]:
    """Returns the objects of a workdir without those of incomplete checkpoints, and those of the mirror itself.

    Args:
        objects: all of them, by path.
        steps: the listed files of checkpoints with their sizes; `None` for a workdir that was copied there by hand.
    """
    stored = {name: info for name, info in objects.items() if name not in ("", STEPS, ownership.FILE)}
    if steps is None:
        return stored
    missing = {
        match[0]
        for name, size in steps.items()
        if stored.get(name, {}).get("size") != size and (match := STEP.match(name))
    }
    return {
        name: info
        for name, info in stored.items()
        if not (match := STEP.match(name)) or (name in steps and match[0] not in missing)
    }


def find_files(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Returns the files of a run with their size and time, without links and what is still being written."""
    states = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(UNFINISHED) and UNFINISHED[1] not in name]
        for name in names:
            place = pathlib.Path(path, name)
            if name == ownership.FILE or name.endswith(UNFINISHED) or place.is_symlink():
                continue
            with contextlib.suppress(FileNotFoundError):
                state = place.stat()
                states[place.relative_to(folder).as_posix()] = (state.st_size, state.st_mtime_ns)
    return states


def remove_empty(folder: pathlib.Path) -> None:
    """Removes the empty folders below a folder: a step of a checkpoint is a folder of that name."""
    for path, _, _ in os.walk(folder, topdown=False):
        if pathlib.Path(path) != folder:
            with contextlib.suppress(OSError):
                pathlib.Path(path).rmdir()
