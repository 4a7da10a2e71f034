"""Rows of files by role."""

import numpy as np
import pytest

import saved_datasets
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.row_files import name_roles, read_roles, read_rows
from jaxdistill.errors import UserError


def test_a_role_is_a_file_or_a_part(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{row},b\n" for row in range(10)))
    settings = DatasetSettings("rows", path=str(path), splits=(("train", "[:80%]"), ("test", f"{path}[80%:]")))
    columns, place = read_roles(settings, {"data.text": "x", "data.pair": ""})
    assert columns == {"train": {"x": [*"01234567"]}, "test": {"x": ["8", "9"]}}
    assert place("test", 1) == f"row 11 of {path}"
    with pytest.raises(UserError, match="data.path must be a file for data.splits.train"):
        read_roles(DatasetSettings("rows", splits=(("train", "[:]"),)), {"data.text": "x"})


def write_csv(path, rows):
    path.write_text("x,y\n" + "".join(f"{row},b\n" for row in rows))


def test_several_files_follow_each_other_and_keep_their_rows_places(tmp_path):
    for name, rows in (("a", range(3)), ("b", range(3, 5))):
        write_csv(tmp_path / f"part-{name}.csv", rows)
    both = f"{tmp_path / 'part-b.csv'},{tmp_path / 'part-a.csv'}"
    orders = {}
    for path in (str(tmp_path / "part-*.csv"), both):
        orders[path] = read_roles(DatasetSettings("rows", path=path, splits=(("train", "[:]"),)), {"data.text": "x"})
    (columns, place), (reverse, reverse_place) = orders.values()
    assert (columns["train"]["x"], reverse["train"]["x"]) == ([*"01234"], [*"34012"])
    assert place("train", 4) == f"row 3 of {tmp_path / 'part-b.csv'}"
    assert reverse_place("train", 2) == f"row 2 of {tmp_path / 'part-a.csv'}"
    overlap = (("train", "[:]"), ("test", f"{both}[20%:40%]"))
    with pytest.raises(
        UserError, match=r"splits.train='\[:\]' and data.splits.test=.* in common, got 1 of .*part-b.csv"
    ):
        read_roles(DatasetSettings("rows", path=str(tmp_path / "part-*.csv"), splits=overlap), {"data.text": "x"})
    (tmp_path / "part-c.csv").write_text("x,z\n1,2\n")
    with pytest.raises(UserError, match=r"part-c.csv must have the columns of .*part-a.csv, \['x', 'y'\], got"):
        read_rows("data.path", "", str(tmp_path / "part-*.csv"), None)
    with pytest.raises(UserError, match="data.path must match a file, got .*, which matches none"):
        read_roles(DatasetSettings("rows", path=str(tmp_path / "none-*.csv")), {"data.text": "x"})


@pytest.mark.parametrize("path", ["{0}/a.csv,{0}/a.csv", "{0}/*.csv,{0}/b.csv", "{0}/a.csv,{0}/../{0.name}/a.csv"])
def test_a_file_is_named_once(tmp_path, path):
    for name in "ab":
        write_csv(tmp_path / f"{name}.csv", range(3))
    with pytest.raises(UserError, match=r"data.path must name a file once, got '.*/[ab].csv' twice in '.*,.*'. Remove"):
        read_rows("data.path", "", path.format(tmp_path), None)


def test_a_seed_orders_rows_before_parts_are_taken(tmp_path):
    write_csv(tmp_path / "a.csv", range(10))
    splits = (("train", "[:60%]"), ("test", "[60%:]"))
    settings = DatasetSettings("rows", path=str(tmp_path / "a.csv"), splits=splits, split_seed=3)
    columns, place = read_roles(settings, {"data.text": "x"})
    numbers = [int(x) for part in columns.values() for x in part["x"]]
    assert numbers == [int(x) for x in np.random.RandomState(3).permutation(10)]
    assert place("test", 0) == f"row {numbers[6] + 2} of {tmp_path / 'a.csv'}"


def test_a_folder_of_save_to_disk_has_its_splits(tmp_path):
    splits = {"train": {"x": ["a", "b"], "y": [0, 1]}, "test": {"x": ["c"], "y": [1]}}
    saved_datasets.save_splits(tmp_path / "set", splits)
    named = {"data.text": "x"}
    columns, place = read_roles(DatasetSettings("rows", path=str(tmp_path / "set"), split_seed=-1), named)
    texts = {role: [*part["x"]] for role, part in columns.items()}  # mapped
    assert texts == {"train": ["a"], "validation": ["b"], "test": ["c"]}
    assert place("test", 0) == f"row 0 of {tmp_path / 'set' / 'test'}"
    part = DatasetSettings("rows", path=str(tmp_path / "set"), splits=(("train", "train[50%:]"),))
    assert [*read_roles(part, named)[0]["train"]["x"]] == ["b"]
    with pytest.raises(UserError, match=r"data.splits.train must be a split of .*, got 'tset'"):
        read_roles(DatasetSettings("rows", path=str(tmp_path / "set"), splits=(("train", "tset"),)), named)
    with pytest.raises(UserError, match=r"data.splits.train must be set, got splits \['a', 'b'\] without 'train'"):
        name_roles(["b", "a"])
