"""Tables of files: one file in parts, and a folder with a file for each split."""

import json

import numpy as np
import pytest

import saved_datasets
from jaxdistill import tasks
from jaxdistill.data import datasets
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.tables import featurizer
from jaxdistill.errors import UserError

ROWS = [(number, "ab"[number % 2], 10.0 * number) for number in range(10)]
CSV = "x,kind,y\n" + "".join(f"{x},{kind},{y}\n" for x, kind, y in ROWS)


def test_a_csv_is_split_by_chance_or_in_order(tmp_path):
    (tmp_path / "t.csv").write_text(CSV)
    dataset = datasets.load("table", path=str(tmp_path / "t.csv"), label="kind")
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 6, "validation": 2, "test": 2}
    values = np.concatenate([split.features[:, 0] for split in dataset.splits.values()])
    np.testing.assert_array_equal(np.sort(values), np.arange(10))
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.features[:, 1], 10 * split.features[:, 0])
        np.testing.assert_array_equal(split.label, split.features[:, 0] % 2)
    splits = {"train": "[:80%]", "test": "[80%:]"}
    dataset = datasets.load("table", path=str(tmp_path / "t.csv"), target="y", columns=("x",), splits=splits)
    np.testing.assert_array_equal(dataset.split("test").features, [[8], [9]])
    [(mean, scale)] = dataset.featurizer.targets
    np.testing.assert_allclose(dataset.split("test").supervision["target"] * scale + mean, [[80], [90]])


def test_a_folder_has_a_file_for_each_split_of_any_kind(tmp_path):
    (tmp_path / "train.csv").write_text(CSV)
    (tmp_path / "test.jsonl").write_text(json.dumps({"x": 3, "kind": "b", "y": None}) + "\n")
    dataset = datasets.load("table", path=str(tmp_path), label="kind", transforms=("impute:mean",))
    assert {*dataset.splits} == {"train", "test"}
    np.testing.assert_allclose(dataset.split("test").features, [[3, 45]])


def test_a_parquet_file_has_types(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = {"x": [1, None, 3, 4, 5], "s": ["u", "v", None, "u", "u"], "kind": [True, False, True, False, True]}
    parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
    splits = {"train": "[:80%]", "test": "[80%:]"}
    transforms = ("impute:mean", "onehot")
    dataset = datasets.load(
        "table", path=str(tmp_path / "t.parquet"), label="kind", splits=splits, transforms=transforms
    )
    assert dataset.class_names == ("0", "1")
    np.testing.assert_allclose(dataset.split("test").features, [[5, 0, 1, 0]])  # missing, u, v


def test_several_files_files_by_split_and_folders_of_save_to_disk(tmp_path):
    for name, rows in (("a", ROWS[:6]), ("b", ROWS[6:])):
        lines = "".join(f"{x},{kind},{y}\n" for x, kind, y in rows)
        (tmp_path / f"{name}.csv").write_text("x,kind,y\n" + lines)
    dataset = datasets.load("table", path=str(tmp_path / "*.csv"), label="kind", columns=("x",))
    assert sum(len(split) for split in dataset.splits.values()) == 10
    splits = {"train": str(tmp_path / "b.csv"), "test": f"{tmp_path / 'a.csv'}[50%:]"}
    dataset = datasets.load("table", label="kind", columns=("x",), splits=splits)
    assert [[*split.features[:, 0]] for split in dataset.splits.values()] == [[6, 7, 8, 9], [3, 4, 5]]
    columns = {"x": [1.0, 2.0, 3.0, 4.0], "kind": [0, 1, 0, 1]}
    features = {"kind": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    saved_datasets.save_splits(tmp_path / "set", {"train": columns, "test": columns}, features)
    dataset = datasets.load("table", path=str(tmp_path / "set"), label="kind")
    assert dataset.class_names == ("no", "yes")
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 3, "validation": 1, "test": 4}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nowhere.csv", {}, "data.path must be a table, or a folder with train.csv, got"),
        ("t.csv", {"splits": {"test": "[:50%]"}}, "data.splits must have train, got"),
        ("t.csv", {"splits": {"train": "80%"}}, "data.splits.train must be a part such as"),
        (
            "t.csv",
            {"splits": {"train": "[:95%]", "test": "[99%:]"}, "label": "y"},
            "'y' in row 11 of .*t.csv must be a cl",
        ),
        ("t.csv", {"splits": {"train": "[:5%]"}}, "the train split of .*t.csv must have rows, got none of 10"),
        (
            "t.csv",
            {"splits": {"train": "[:80%]", "validation": "[80%:]", "test": "[60%:80%]"}},
            r"splits.train='\[:80%\]' and data.splits.test='\[60%:80%\]' must have no example in common, got 2 of",
        ),
        ("t.csv", {"columns": ("z",)}, "must be one of .*t.csv, got 'z'"),
        ("folder", {}, r"must have a file train.csv, .tsv, .jsonl or .parquet, got \['notes.md'\]"),
        ("double", {}, r"must have one file for train, got \['train.csv', 'train.tsv'\]"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, name, settings, message):
    (tmp_path / "t.csv").write_text(CSV)
    for folder, files in {"folder": ["notes.md"], "double": ["train.csv", "train.tsv"]}.items():
        (tmp_path / folder).mkdir()
        for file in files:
            (tmp_path / folder / file).write_text(CSV)
    with pytest.raises(UserError, match=message):
        datasets.load("table", path=str(tmp_path / name), **{"label": "kind"} | settings)


SEVERAL = "x,sun,sea,age,weight,tags\n1,1,0,10,1,a|b\n2,0,,20,,\n3,true,1,,,b\n4,,,40,4,a\n"


def read_several(path, **settings):
    (path / "s.csv").write_text(SEVERAL)
    splits = (("train", "[:75%]"), ("test", "[75%:]"))
    return datasets.read(DatasetSettings("table", path=str(path / "s.csv"), splits=splits, columns=("x",), **settings))


def test_several_labels_and_targets(tmp_path):
    flags = read_several(tmp_path, labels=("sun", "sea"))
    batch = flags.split("train").take(np.arange(3))
    np.testing.assert_array_equal(batch["labels"], [[1, 0], [0, np.nan], [1, 1]])
    assert (batch["label"].tolist(), flags.split("test").labels().tolist()) == ([0, 0, 0], [-1])
    assert (flags.class_names, batch["features"].tolist()) == (("sun", "sea"), [[1], [2], [3]])
    lists = read_several(tmp_path, labels=("tags",))
    np.testing.assert_array_equal(lists.split("train").take(np.arange(3))["labels"], [[1, 1], [0, 0], [0, 1]])
    numbers = read_several(tmp_path, targets=("age", "weight"))
    assert [(x.name, x.mean, x.scale) for x in numbers.targets] == [("age", 15, 5), ("weight", 1, 1)]
    np.testing.assert_array_equal(
        numbers.split("train").take(np.arange(3))["target"], [[-1, 0], [1, np.nan], [np.nan, np.nan]]
    )
    assert numbers.split("train").labels().tolist() == [0, 0, -1]
    np.testing.assert_array_equal(numbers.split("test").take(np.arange(1))["target"], [[5, 3]])
    assert tasks.find(flags).__name__ == "MultiLabel"
    assert tasks.find(numbers).__name__ == "Regression"


def test_a_stored_featurizer_has_the_scale_of_each_target(tmp_path):
    first = read_several(tmp_path, targets=("age", "weight"), transforms=("standardize",))
    first.featurizer.save(tmp_path / "featurizer.npz")
    stored = featurizer.load(tmp_path)
    assert (stored, stored.digest()) == (first.featurizer, first.featurizer.digest())
    again = read_several(tmp_path, targets=("age", "weight"), featurizer=str(tmp_path))
    assert again.targets == first.targets
    for other in ({"target": "age"}, {"targets": ("weight", "age")}):
        with pytest.raises(UserError, match=r"data.targets must be those of data.featurizer, \['age', 'weight'\], got"):
            read_several(tmp_path, **other, featurizer=str(tmp_path))
    one = read_several(tmp_path, target="age")
    one.featurizer.save(tmp_path / "one" / "featurizer.npz")
    with pytest.raises(UserError, match="data.targets must be those of data.featurizer, one target, got"):
        read_several(tmp_path, targets=("age", "weight"), featurizer=str(tmp_path / "one"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ("sun", "se")}, "data.labels, .*, must be one of .*s.csv, got 'se'"),
        ({"labels": ("sun", "age")}, "row 2 of .* must have 0 or 1, .* in column 'age' of data.labels, got '10'"),
        ({"labels": ("sun", "x")}, "data.columns must be without 'x', which is learned"),
        ({"targets": ("age", "tags")}, "row 2 of .* must have a finite number in column 'tags' of data.targets, got"),
        ({"target": "tags"}, "row 2 of .* must have a finite number in column 'tags' of data.target, got"),
        ({"targets": ("age", "age")}, "data.targets must name a column once, got 'age' twice"),
        ({"targets": ("age",), "labels": ("sun", "sea")}, r"data must have one of .*, got \{'labels'.*'targets'"),
        ({"labels": ("sea",)}, "data.labels must name several columns of 0 and 1"),
    ],
)
def test_mistakes_of_several(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        read_several(tmp_path, **settings)
