"""Files of logits, in the order of examples and classes; those that do not fit are refused."""

import numpy as np
import pytest

from jaxdistill.data import logit_files
from jaxdistill.errors import UserError

LOGITS = np.arange(12, dtype=np.float32).reshape(4, 3)
LENGTHS = {"train": 4, "test": 2}


def read(path, names=("a", "b", "c")):
    return logit_files.read(path, LENGTHS, names)


def test_rows_in_order_and_by_id(tmp_path):
    order = np.asarray([2, 0, 3, 1])
    np.savez(tmp_path / "a.npz", train_logits=LOGITS[order], train_id=order, test_logits=LOGITS[:2])
    splits = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(splits["train"], LOGITS)
    np.testing.assert_array_equal(splits["test"], LOGITS[:2])


def test_classes_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", train_logits=LOGITS, class_names=["c", "a", "b"])
    np.testing.assert_array_equal(read(tmp_path / "a.npz")["train"], LOGITS[:, [1, 2, 0]])
    with pytest.raises(UserError, match="must have the classes of the data"):
        read(tmp_path / "a.npz", ("a", "b", "d"))


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3)])
def test_parquet(tmp_path, shape):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (tmp_path / "folder").mkdir()
    for number, rows in enumerate(([3, 1], [0, 2])):
        table = {"id": rows, "logits": values[rows].tolist()} | ({} if number else {"note": ["x", "y"]})
        parquet.write_table(
            pyarrow.table({"id": table["id"], "logits": table["logits"]}), tmp_path / "folder" / f"{number}.parquet"
        )
    np.testing.assert_array_equal(read(tmp_path / "folder")["train"], values)
    fixed = pyarrow.FixedSizeListArray.from_arrays(LOGITS.reshape(-1), 3)
    table = pyarrow.table({"id": [0, 1, 0, 1], "split": ["test", "test", "train", "train"], "logits": fixed})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(
        UserError, match=r"split train must have one row for each of 4 examples, got 0 rows of example 2"
    ):
        read(tmp_path / "a.parquet")
    np.testing.assert_array_equal(
        logit_files.read(tmp_path / "a.parquet", {"train": 2, "test": 2}, ())["test"], LOGITS[:2]
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(train_logits=LOGITS[:3]), "must have logits of 4 examples, got 3"),
        (dict(train_logits=LOGITS, train_id=[0, 1, 2, 2]), "got 2 rows of example 2"),
        (dict(train_logits=LOGITS, train_id=[0, 1, 2]), "a whole number as id for each row"),
        (dict(train_logits=LOGITS.astype(int)), "must have float logits"),
        (dict(train_logits=LOGITS[:, 0]), "must have float logits"),
        (dict(dev_logits=LOGITS), r"must have logits of the splits \['train', 'test'\], got 'dev'"),
        (dict(other=LOGITS), "must have an array such as train_logits, got none"),
    ],
)
def test_files_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.npz")


def test_files_that_cannot_be_read(tmp_path):
    for name in ("a.npz", "a.parquet"):
        (tmp_path / name).write_text("nonsense")
        with pytest.raises(UserError, match="the file of logits must be"):
            read(tmp_path / name)
    with pytest.raises(UserError, match=r"must be \.npz or \.parquet, got .*nosuch"):
        read(tmp_path / "nosuch")
