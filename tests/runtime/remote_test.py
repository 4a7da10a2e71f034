"""Files of a store: fetched once, as a whole, and refused with one message."""

import pathlib

import fsspec
import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime import files, remote


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """The store of this process, empty; files are fetched into a folder of the test."""
    monkeypatch.setenv(remote.FOLDER, str(tmp_path / "fetched"))
    monkeypatch.setattr(remote, "FRESH", 0.0)
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_files_folders_and_patterns_are_fetched(memory, tmp_path):
    for name in ("data/train-0.csv", "data/train-1.csv", "data/deep/other.csv", "data/test.csv"):
        memory.pipe_file(f"/bucket/{name}", name.encode())
    file = files.input_path("data.path", "memory://bucket/data/test.csv")
    assert file == tmp_path / "fetched/fetched/memory/bucket/data/test.csv"
    assert file.read_text() == "data/test.csv"
    pattern = files.input_path("data.path", "memory://bucket/data/train-*.csv")
    assert [path.name for path in sorted(pattern.parent.glob(pattern.name))] == ["train-0.csv", "train-1.csv"]
    assert not (pattern.parent / "deep").exists()
    folder = files.input_path("data.path", "memory://bucket/data/")
    assert (folder / "deep" / "other.csv").read_text() == "data/deep/other.csv"
    assert files.input_path("data.data_dir", "memory://bucket", below="data") == folder.parent
    assert files.input_path("data.path", "a/b") == files.local_path("data.path", "a/b")


def test_only_what_has_changed_is_fetched_again(memory, monkeypatch):
    url = "memory://bucket/data"
    for name in "ab":
        memory.pipe_file(f"/bucket/data/{name}", b"1")
    folder, fetched, get = files.input_path("data.path", url), [], remote.Store.get

    def record(store, names, place):
        fetched.append(list(names))
        get(store, names, place)

    monkeypatch.setattr(remote.Store, "get", record)
    memory.pipe_file("/bucket/data/b", b"2")
    files.input_path("data.path", url)
    (folder / "a").write_bytes(b"changed here")
    files.input_path("data.path", url)
    assert fetched == [["b"], ["a"]]
    assert [(folder / name).read_bytes() for name in "ab"] == [b"1", b"2"]
    monkeypatch.setattr(remote, "FRESH", 60.0)
    files.input_path("data.path", url)
    assert fetched == [["b"], ["a"]]


def test_stores_that_cannot_be_read(memory, monkeypatch):
    with pytest.raises(
        UserError, match="data.path must be an existing file or folder, got 'memory://nosuch', where not"
    ):
        files.input_path("data.path", "memory://nosuch")
    with pytest.raises(UserError, match="must be a path of this machine, got the URL 'ftp://host/x'"):
        files.input_path("data.path", "ftp://host/x")
    memory.pipe_file("/bucket/a", b"1")

    def fail(*_, **__):
        raise PermissionError("no\nlogin")

    monkeypatch.setattr(type(memory), "get_file", fail)
    with pytest.raises(UserError, match=r"may read and write, got 'memory://bucket/a' \(PermissionError: no\)\. Check"):
        files.input_path("data.path", "memory://bucket/a")


def test_a_file_that_is_cut_off_is_no_copy(memory, monkeypatch):
    memory.pipe_file("/bucket/a", b"whole")
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "get_file", lambda self, remote, local, **_: pathlib.Path(local).write_bytes(b"wh"))
        with pytest.raises(UserError, match="has 5 bytes, and 2 were read"):
            files.input_path("data.path", "memory://bucket/a")
    assert files.input_path("data.path", "memory://bucket/a").read_bytes() == b"whole"


def test_without_the_library_of_a_scheme(monkeypatch):
    def fail(url):
        raise ImportError("no gcsfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(
        UserError, match=r"weights must have the library of gs://.* pip install 'jaxdistill\[gcs\]', or mo"
    ):
        files.input_path("weights", "gs://bucket/run/teacher")
