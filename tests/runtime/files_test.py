"""Files are written whole or not at all, and a file that cannot be used is named with its remedy."""

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
