"""Folders of `save_to_disk`: splits, columns and classes, and what is damaged."""

import json

import pytest

import saved_datasets
from jaxdistill.data import arrow_files
from jaxdistill.errors import UserError

FEATURES = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}


def test_columns_are_mapped_and_classes_have_names(tmp_path):
    columns = {"text": ["a", "b", None], "label": [1, 0, -1]}
    saved_datasets.save_splits(tmp_path / "set", {"train": columns, "test": columns}, FEATURES)
    assert arrow_files.is_saved(tmp_path / "set")
    assert not arrow_files.is_saved(tmp_path)
    folders = arrow_files.find_splits(tmp_path / "set")
    assert folders == {"train": tmp_path / "set" / "train", "test": tmp_path / "set" / "test"}
    assert arrow_files.find_splits(folders["train"]) == {"": folders["train"]}
    split = arrow_files.open_split(folders["test"])
    assert split.class_names("label") == ("no", "yes")
    assert split.class_names("text") == ()
    assert split.read({"label": "data.label"}) == {"label": ["yes", "no", None]}
    assert [*split.read()] == ["text", "label"]
    import pyarrow

    mapped = sum(
        buffer.size for chunk in split.column("text", "data.text").chunks for buffer in chunk.buffers() if buffer
    )
    assert mapped > 0
    assert pyarrow.total_allocated_bytes() < 10_000  # the columns are in the files' memory


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("state.json", "[]", "state.json must be a file of save_to_disk, got list"),
        ("state.json", "{", "state.json must be a file of save_to_disk, got"),
        ("state.json", json.dumps({"_data_files": []}), "must have at least one row, got none"),
        ("state.json", json.dumps({"_indices_data_files": [1]}), "Call flatten_indices"),
        ("data-00000-of-00001.arrow", "no arrow", "data-00000-of-00001.arrow must be an Arrow file, got"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, name, content, message):
    saved_datasets.save(tmp_path / "set", {"x": [1, 2]}, files=1)
    (tmp_path / "set" / name).write_text(content)
    with pytest.raises(UserError, match=message):
        arrow_files.open_split(tmp_path / "set")


def test_a_class_beyond_the_names_is_named(tmp_path):
    saved_datasets.save(tmp_path / "set", {"label": [0, 1, 2]}, FEATURES)
    with pytest.raises(UserError, match="row 2 of .*set must have one of 2 classes in 'label', got 2. Correct the row"):
        arrow_files.open_split(tmp_path / "set").read()


def test_a_missing_column_is_named(tmp_path):
    saved_datasets.save(tmp_path / "set", {"text": ["a"]}, files=1)
    with pytest.raises(UserError, match="data.text, the name of a column, must be one of .*, got 'txt'"):
        arrow_files.open_split(tmp_path / "set").column("txt", "data.text")
