"""Files are written whole or not at all, and a file that cannot be used is named with its remedy."""

import errno
import hashlib
import json
import pathlib

import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime import files


def test_a_write_that_is_cut_off_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "new" / "run.json"
    files.write_json(path, {"step": 1})

    def half(self, content):
        with self.open("wb") as file:
            file.write(content[:3])
        raise OSError("no space")

    monkeypatch.setattr(pathlib.Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space"):
        files.write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 1}
    assert [entry.name for entry in path.parent.iterdir() if entry != path] == [files.part_of(path).name]


def test_files_of_one_stem_have_parts_of_their_own(tmp_path):
    assert files.part_of(tmp_path / "0.json") != files.part_of(tmp_path / "0.array_record")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("[1]", "JSON of another kind"), ("{1: 2}", "cannot be read"), (None, "cannot be read")],
)
def test_a_file_that_is_no_object_is_refused_with_its_path_and_a_fix(tmp_path, content, message):
    path = tmp_path / "done.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        files.read_json(path, dict, "Run it again.")
    assert str(raised.value).startswith(f"{path} must be")
    assert str(raised.value).endswith("Run it again.")


def test_a_digest_is_of_all_content_in_order():
    whole = hashlib.sha256(b"abc").hexdigest()
    assert files.digest(b"abc") == files.digest(b"a", b"bc") == whole[:16]
    assert files.digest(b"bc", b"a") != whole[:16]


def test_a_digest_of_json_does_not_depend_on_the_order_of_keys():
    assert files.json_digest({"a": 1, "b": (2, 3)}) == files.json_digest({"b": [2, 3], "a": 1})
    assert files.json_digest({"a": 1}) != files.json_digest({"a": 2})


def test_a_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert files.file_digest(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_differences_have_the_expected_and_the_existing_value():
    lines = files.diff_lines({"same": (1, 2), "a": 1, "b": 2}, {"same": [1, 2], "a": 3, "c": 4})
    assert lines == ["- a: 1", "+ a: 3", "- b: 2", "+ b: (nothing)", "- c: (nothing)", "+ c: 4"]
    assert files.diff_lines({"a": 1}, {"a": 1}) == []


def test_of_many_differences_some_of_both_sides_are_listed():
    expected, existing = ({f"{side}{k}": k for k in range(5)} for side in "xy")
    lines = files.diff_lines(expected, existing, limit=2)
    assert [line[:4] for line in lines] == ["- x0", "+ x0", "- x1", "+ x1", "- y0", "+ y0", "- y1", "+ y1", "and "]
    assert lines[-1] == "and 6 more"


LINE = '{"stage": "teacher", "step": 2, "loss": 1.5}\n'


@pytest.mark.parametrize(
    "damage",
    [
        b'{"stage": "tea\n',
        b"\xff\xfe\n",
        b"[1]\n",
        b'{"stage": "teacher"}\n',
        b'{"stage": "teacher", "step": "x"}\n',
        b"\n",
    ],
)
def test_a_damaged_line_of_metrics_is_named_with_its_number_and_stays(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINE.encode() + damage + LINE.encode())
    with pytest.raises(
        UserError, match=r"metrics\.jsonl must have metrics in every line.*in line 2\. Remove.*sed -i 2d"
    ):
        files.read_metrics(path)
    assert path.read_bytes() == LINE.encode() + damage + LINE.encode()


def test_half_of_a_last_line_of_a_killed_run_is_skipped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(LINE + LINE[:10])
    assert files.read_metrics(tmp_path / "metrics.jsonl") == [{"stage": "teacher", "step": 2, "loss": 1.5}]
    assert files.read_metrics(tmp_path / "nothing.jsonl") == []


def test_a_file_without_permission_is_not_called_damaged(tmp_path, monkeypatch):
    def fail(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "read_text", fail)
    with pytest.raises(UserError, match=r"done\.json must be readable and writable for this user.*chmod"):
        files.read_json(tmp_path / "done.json", dict)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/runs/a", "HOME/runs/a"),
        ("file:///runs/a%20b", "/runs/a b"),
        ("file://localhost/runs", "/runs"),
        ("runs/a~b", "runs/a~b"),
        ("/runs/:x", "/runs/:x"),
    ],
)
def test_paths_of_the_home_folder_and_of_file_urls(text, path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(files.local_path("data.path", text)) == path.replace("HOME", "/home/me")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gs://bucket/x", r"data\.path must be a path of this machine, got the URL 'gs://bucket/x'\. Mount the bucket"),
        ("https://host/x.npz", "got the URL"),
        ("file://runs/x", "must have an absolute path after file://"),
        ("a\0b", "must be a path of printable characters"),
        ("~nobody-here/x", "must be an existing user's folder"),
    ],
)
def test_other_urls_and_texts_that_are_no_paths_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        files.local_path("data.path", text)
