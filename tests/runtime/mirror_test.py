"""A workdir on a store: what is written there after each way of ending, and what another machine makes of it."""

import contextlib
import json
import os
import pathlib
import shutil
import threading
import time

import fsspec
import jax
import pytest

from jaxdistill.errors import Interrupted, UserError
from jaxdistill.runtime import distributed, mirror, ownership, remote
from jaxdistill.runtime.mirror import open_workdir

URL = "memory://bucket/run"


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """The store of this process, empty; mirrors are in a folder of the test."""
    monkeypatch.setenv(remote.FOLDER, str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def objects(system):
    """Returns the objects of the workdir."""
    return sorted(name.removeprefix("/bucket/run/") for name in system.find("/bucket/run"))


def write(folder, *names, text="1"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def find(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def forget(tmp_path):
    """Makes this machine one that has never seen the workdir."""
    shutil.rmtree(tmp_path / "cache")


def test_a_run_goes_on_on_another_machine(memory, tmp_path):
    names = ["config.json", "distil/checkpoints/4/a", "distil/checkpoints/4/b/c", "metrics.jsonl", "teacher/done.json"]
    with open_workdir("--workdir", URL, lambda line: None) as folder:
        assert folder.name == "run"
        write(folder, *names, "x.part", "distil/checkpoints/8.orbax-checkpoint-tmp/a", ".owner")
        (folder / "link").symlink_to("nowhere")
    assert objects(memory) == sorted([*names, mirror.STEPS])
    forget(tmp_path)
    with open_workdir("--workdir", URL, lambda line: None) as folder:
        assert find(folder) == names
        shutil.rmtree(folder / "distil" / "checkpoints" / "4")
        write(folder, "distil/checkpoints/8/a", "metrics.jsonl", text="22")
    assert objects(memory) == sorted([*names[:1], "distil/checkpoints/8/a", *names[3:], mirror.STEPS])
    assert memory.cat_file("/bucket/run/metrics.jsonl") == b"22"


def test_the_same_machine_fetches_nothing_again(memory, monkeypatch):
    with open_workdir("--workdir", URL, lambda line: None) as folder:
        write(folder, "config.json", "distil/done.json")
    fetched, get = [], remote.Store.get
    monkeypatch.setattr(
        remote.Store, "get", lambda store, names, place: fetched.extend(names) or get(store, names, place)
    )
    write(folder, "lost.json", "distil/checkpoints/4/a")
    with open_workdir("--workdir", URL, lambda line: None) as folder:
        assert find(folder) == ["config.json", "distil/done.json"]  # as the store is
        assert not (folder / "distil" / "checkpoints").exists()
    assert fetched == []


def test_what_could_not_be_written_is_written_by_the_next_launch(memory, monkeypatch):
    with open_workdir("--workdir", URL, lambda line: None) as folder:
        write(folder, "a/checkpoints/4/a", "metrics.jsonl")

    def refuse(*arguments, **options):
        raise OSError("the login has expired")

    def leave_unwritten():
        with monkeypatch.context() as patch, open_workdir("--workdir", URL, lambda line: None) as folder:
            shutil.rmtree(folder / "a/checkpoints/4", ignore_errors=True)
            write(folder, "a/checkpoints/8/a", "metrics.jsonl", text="22")
            patch.setattr(type(memory), "put_file", refuse)

    expired = r"the login has expired.* What the run has written is in"
    with pytest.raises(UserError, match=expired):
        leave_unwritten()
    with open_workdir("--workdir", URL, lambda line: None) as folder:
        assert find(folder) == ["a/checkpoints/8/a", "metrics.jsonl"]
        assert (folder / "metrics.jsonl").read_text() == "22"
        assert objects(memory) == sorted([ownership.FILE, "a/checkpoints/8/a", "metrics.jsonl", mirror.STEPS])
        write(folder, "b/checkpoints/1/a")
    with pytest.raises(UserError, match=expired):
        leave_unwritten()
    memory.pipe_file(f"/bucket/run/{mirror.STEPS}", b'{"a/checkpoints/12/a": 3}')
    one = mirror.Mirror("--workdir", remote.open_store("--workdir", URL), print)
    with pytest.raises(UserError, match="must have no checkpoints of another launch beside those in .*run, which"):
        one.recover()


class Killed(BaseException):
    """The end of the process at some write."""


STATES = [
    {"config.json", "teacher/checkpoints/4/a", "teacher/checkpoints/4/b"},
    {"config.json", "teacher/checkpoints/8/a", "teacher/checkpoints/8/b", "teacher/done.json", "results.json"},
]


@pytest.mark.parametrize("number", range(12))
def test_a_kill_at_any_write_leaves_a_state_that_was(memory, tmp_path, monkeypatch, number):
    monkeypatch.setattr(remote, "GROUP", 1)
    one = mirror.Mirror("--workdir", remote.open_store("--workdir", URL), print)
    one.pull()
    write(one.folder, *STATES[0], text="1")
    one.push()
    shutil.rmtree(one.folder / "teacher")
    write(one.folder, *STATES[1], text="22")
    acts, numbers = ("pipe_file", "put_file", "rm_file"), iter(range(100))

    def killed_at(act):
        original = getattr(type(memory), act)

        def run(self, *arguments, **options):
            if next(numbers) == number:
                raise Killed
            return original(self, *arguments, **options)

        return run

    with monkeypatch.context() as patch:
        for act in acts:
            patch.setattr(type(memory), act, killed_at(act))
        try:
            one.push()
        except Killed:
            pass
        else:
            assert number > 6
    forget(tmp_path)
    other = mirror.Mirror("--workdir", remote.open_store("--workdir", URL), print)
    other.pull()
    found = {*find(other.folder)}
    steps = {name for name in found if "checkpoints" in name}
    whole = [{name for name in state if "checkpoints" in name} for state in STATES]
    assert steps in (*whole, whole[0] | whole[1])
    if "teacher/done.json" in found:
        assert found - whole[0] == STATES[1]
    other.push()
    assert {*objects(memory)} == found | {mirror.STEPS}


def test_a_workdir_that_another_launch_has(memory, monkeypatch):
    monkeypatch.setattr(ownership, "PATIENCE", 0.2)
    owner = {"process": 1, "host": "elsewhere", "start": "5", "time": "now"}
    reads, read = [], mirror.Mirror._read_owner

    def renewed(self):
        reads.append(read(self))
        return (reads[-1] or {}) | {"beat": len(reads)}

    memory.pipe_file("/bucket/run/.owner", json.dumps(owner).encode())
    with monkeypatch.context() as patch:
        patch.setattr(mirror.Mirror, "_read_owner", renewed)
        with pytest.raises(
            UserError, match="one launch at a time, got 'memory://bucket/run', which process 1 on host els"
        ):
            open_workdir("--workdir", URL).__enter__()
    with open_workdir("--workdir", URL, lambda line: None):  # its owner is gone
        assert json.loads(memory.cat_file("/bucket/run/.owner"))["process"] == os.getpid()
    assert objects(memory) == [mirror.STEPS]


def test_a_launch_whose_workdir_was_taken_writes_no_more(memory, monkeypatch):
    monkeypatch.setattr(ownership, "RENEWAL", 0.01)
    notes = []

    def run():
        with open_workdir("--workdir", URL, notes.append) as folder:
            owner = {"process": 1, "host": "elsewhere", "start": "5", "time": "now"}
            memory.pipe_file("/bucket/run/.owner", json.dumps(owner).encode())
            write(folder, "config.json")
            while len(notes) < 2:
                time.sleep(0.01)

    with pytest.raises(UserError, match="is no longer written, since process 1 on host elsewhere"):
        run()
    assert objects(memory) == [".owner"]


def test_a_store_that_fails_for_a_while(memory, monkeypatch):
    monkeypatch.setattr(ownership, "RENEWAL", 0.01)
    monkeypatch.setattr(mirror, "INTERVAL", 0.0)
    put, notes = type(memory).put_file, []

    def fail(self, *arguments, **options):
        if len(notes) < 3:
            raise TimeoutError("slow")
        put(self, *arguments, **options)

    monkeypatch.setattr(type(memory), "put_file", fail)
    with open_workdir("--workdir", URL, notes.append) as folder:
        write(folder, "config.json")
        while "config.json" not in objects(memory):
            time.sleep(0.01)
    assert notes[1] == "note: memory://bucket/run could not be written (TimeoutError: slow), and is tried again"
    monkeypatch.setattr(ownership, "RENEWAL", 9.0)

    def run():
        with open_workdir("--workdir", URL, lambda line: notes.clear()) as folder:
            write(folder, "config.json", text="new")

    with pytest.raises(UserError, match=r"\(TimeoutError: slow\).* What the run has written is in .*bucket/run\."):
        run()


@pytest.fixture
def synced(monkeypatch):
    """Makes this process one of two, which take turns here; lists where they would wait for each other."""
    waits = []

    @contextlib.contextmanager
    def refuse_together():
        yield
        waits.append(True)

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "refuse_together", refuse_together)
    return waits


@contextlib.contextmanager
def of_process(index, monkeypatch, log=pytest.fail):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    with open_workdir("--workdir", URL, log) as folder:
        yield folder


def test_of_several_processes_the_first_writes_and_the_others_fetch(memory, synced, monkeypatch):
    with of_process(0, monkeypatch, lambda line: None) as first:
        write(first, "config.json", "distil/checkpoints/4/a")
        mirror.share(first)
        with of_process(1, monkeypatch) as second:  # which prints nothing
            assert first != second
            assert find(second) == ["config.json", "distil/checkpoints/4/a"]
            assert mirror.is_private(second / "distil")
            assert not mirror.is_private(second.parent)
            write(second, "of_this_process_alone")
            shutil.rmtree(first / "distil/checkpoints/4")
            write(first, "distil/done.json", "distil/checkpoints/8/a", text="22")
            mirror.share(first / "distil")
            mirror.share(second)
            assert find(second) == ["config.json", "distil/checkpoints/8/a", "distil/done.json"]
            write(second, "of_this_process_alone")
        assert json.loads(memory.cat_file("/bucket/run/.owner"))["process"] == os.getpid()
        assert not mirror.is_private(second)
    assert objects(memory) == sorted(["config.json", "distil/checkpoints/8/a", "distil/done.json", mirror.STEPS])
    assert len(synced) == 2 * (2 + 1) + 3 * 2  # to open and to close it, and to share it


def test_processes_wait_for_the_last_writing_if_all_of_them_end(memory, synced, monkeypatch):
    """Not for one that fails alone: the others may be in a collective, or gone."""

    def end_by(error):
        with of_process(0, monkeypatch, lambda line: None) as folder:
            write(folder, "config.json", text=str(error))
            raise error

    for error, count in ((Interrupted("stopped", 143), 3), (UserError("no such file"), 5), (KeyboardInterrupt(), 7)):
        with pytest.raises(type(error)):
            end_by(error)
        assert memory.cat_file("/bucket/run/config.json") == str(error).encode()
        assert len(synced) == count


def test_what_a_store_raises_between_two_stages_is_a_message(memory, synced, monkeypatch):
    """Only that reaches the other processes; they would lose the first one in a collective."""

    def refuse(*arguments, **options):
        raise OSError("the login has expired")

    with of_process(0, monkeypatch, lambda line: None) as folder:
        write(folder, "config.json")
        with monkeypatch.context() as patch:
            patch.setattr(type(memory), "put_file", refuse)
            with pytest.raises(UserError, match=r"the login has expired.* What the run has written is in"):
                mirror.share(folder)


def test_a_path_is_the_workdir_of_all_processes(synced):
    with open_workdir("--workdir", "runs/a") as folder:
        assert folder == pathlib.Path("runs/a")
        assert not mirror.is_private(folder)
        mirror.share(folder)
    assert not synced


def test_two_writings_of_one_folder_follow_each_other(memory, monkeypatch):
    """That of a stage's end, and that of the interval, on a thread of its own."""
    under_way, most = [], []

    def push(self):
        under_way.append(True)
        most.append(len(under_way))
        time.sleep(0.05)
        under_way.pop()

    monkeypatch.setattr(mirror.Mirror, "_push", push)
    written = mirror.Mirror("--workdir", remote.open_store("--workdir", URL), pytest.fail)
    threads = [threading.Thread(target=written.push) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
