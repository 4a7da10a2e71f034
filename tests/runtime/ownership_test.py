"""One launch at a time owns a workdir, and a dead owner's is taken over."""

import dataclasses
import json
import os
import subprocess
import threading

import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime import ownership


@pytest.fixture
def sleeper():
    """A process of this host."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def write_owner(workdir, **changes):
    owner = dataclasses.asdict(dataclasses.replace(ownership.this_process(), **changes))
    (workdir / ownership.FILE).write_text(json.dumps(owner))


def test_the_second_launch_is_refused_and_one_killed_is_taken_over(tmp_path, sleeper):
    write_owner(tmp_path, process=sleeper.pid, start=ownership.start_of(sleeper.pid))
    record = json.loads((tmp_path / ownership.FILE).read_text())
    with pytest.raises(UserError) as raised, ownership.own_workdir(tmp_path):
        pass
    for part in (f"process {sleeper.pid} on host {record['host']}", f"since {record['time']}", f"kill {sleeper.pid}"):
        assert part in str(raised.value)
    assert json.loads((tmp_path / ownership.FILE).read_text()) == record
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it is still in the table of processes
    with ownership.own_workdir(tmp_path):
        assert json.loads((tmp_path / ownership.FILE).read_text())["process"] == os.getpid()
    assert not (tmp_path / ownership.FILE).exists()


def test_a_process_that_took_the_number_of_a_dead_owner_is_no_owner(tmp_path):
    write_owner(tmp_path, start="1")
    with ownership.own_workdir(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", '{"process": 1', "[]", '{"process": 1}'])
def test_an_incomplete_record_is_no_owner(tmp_path, content):
    (tmp_path / ownership.FILE).write_text(content)
    with ownership.own_workdir(tmp_path):
        pass


def test_an_owner_on_another_host_that_does_not_renew_its_record_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "PATIENCE", 0.2)
    write_owner(tmp_path, host="elsewhere")
    with ownership.own_workdir(tmp_path):
        pass


def test_an_owner_on_another_host_that_renews_its_record_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "PATIENCE", 5.0)
    monkeypatch.setattr(ownership, "RENEWAL", 0.01)
    write_owner(tmp_path, host="elsewhere")
    ended = threading.Event()
    renewing = threading.Thread(target=ownership._renew, args=(tmp_path / ownership.FILE, ended))
    renewing.start()
    try:
        with pytest.raises(UserError, match="on host elsewhere"), ownership.own_workdir(tmp_path):
            pass
    finally:
        ended.set()
        renewing.join()


def test_an_owner_that_lost_its_workdir_leaves_the_record_of_the_new_one(tmp_path):
    with ownership.own_workdir(tmp_path):
        write_owner(tmp_path, host="elsewhere")
    assert "elsewhere" in (tmp_path / ownership.FILE).read_text()


def test_of_many_launches_at_once_one_owns_the_workdir(tmp_path):
    write_owner(tmp_path, start="1")  # all of them find a dead owner
    start, release, results = threading.Barrier(8), threading.Event(), []

    def launch():
        start.wait()
        try:
            with ownership.own_workdir(tmp_path):
                results.append("owned")
                release.wait(30)
        except UserError:
            results.append("refused")
        if len(results) == 8:
            release.set()

    threads = [threading.Thread(target=launch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["owned"] + ["refused"] * 7
