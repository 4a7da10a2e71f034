"""Texts in the rows of files: splits, labels, pairs, and the row of each mistake."""

import json

import numpy as np
import pytest

from jaxdistill.core import UNLABELLED
from jaxdistill.data import datasets
from jaxdistill.errors import UserError
from jaxdistill.tasks import find
from tokenizer_files import PIECES, SPECIAL, write_byte_level, write_wordpiece

NAMES = {"text": "text", "label": "label"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folders of a WordPiece and of a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return write_wordpiece(folder / "words"), write_byte_level(folder / "bytes", [*SPECIAL, *PIECES])


def write(path, rows):
    path.write_text("\n".join(["text,other,label", *rows]) + "\n")
    return str(path)


def load(path, folders, **options):
    return datasets.load("text_rows", **{"path": str(path), "tokenizer": folders[0], "length": 8} | NAMES | options)


def test_splits_are_parts_of_the_rows_or_files(tmp_path, folders):
    path = write(tmp_path / "a.csv", [f"good film,bad,{'np'[row % 2]}" for row in range(40)])
    dataset = load(path, folders)
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 36, "validation": 2, "test": 2}
    assert dataset.class_names == ("n", "p")
    assert find(dataset).__name__ == "TextClassification"
    batch = dataset.split("test").take(np.array([1, 0]))
    assert batch["tokens"].tolist() == [[2, 5, 6, 3, 0, 0, 0, 0]] * 2
    assert batch["token_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 2
    assert batch["word"].tolist() == [[-1, 1, 2, -1, -1, -1, -1, -1]] * 2
    assert batch["label"].tolist() == [1, 0]
    assert dataset.split("test").token_counts.tolist() == [4, 4]
    few = write(tmp_path / "b.csv", ["film,bad,p"])
    more = write(tmp_path / "c.csv", [f"bad film,good,{'np'[row % 2]}" for row in range(40)])
    dataset = load("", folders, splits={"train": path, "test": f"{few}[:]", "validation": f"{more}[50%:60%]"})
    assert {role: len(split) for role, split in dataset.splits.items()} == {"train": 40, "test": 1, "validation": 4}


def test_pairs_have_segments_and_a_teacher_its_own_tokens(tmp_path, folders):
    path = write(tmp_path / "a.csv", ["good film,bad,2", "bad,film,10"])
    options = {"pair": "other", "teacher_tokenizer": folders[1], "splits": {"train": "[:]"}}
    dataset = load(path, folders, **options)
    assert dataset.class_names == ("2", "10")
    batch = dataset.split("train").take(np.arange(1))
    assert batch["tokens"].tolist() == [[2, 5, 6, 3, 7, 3, 0, 0]]
    assert batch["segment"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0]]
    assert batch["teacher_tokens"].tolist() == [[0, 18, 24, 2, 2, 6, 5, 2]]
    assert batch["teacher_token_mask"].sum() == 8
    assert (dataset.vocabulary, dataset.teacher_vocabulary, dataset.mask_token) == (15, 25, 4)
    assert dataset.teacher_tokenizer.startswith("BPE 25 ")
    assert dataset.split("train").token_counts.tolist() == [8, 8]


def test_without_labels(tmp_path, folders):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in ("good", "", "bad film")))
    dataset = load(path, folders, label="", splits={"train": "[:]"})
    batch = dataset.split("train").take(np.arange(3))
    assert (batch["label"].tolist(), dataset.class_names) == ([UNLABELLED] * 3, ())
    assert batch["tokens"][1, :3].tolist() == [2, 3, 0]  # an empty text is its special tokens


ROWS = ["good,,a", "bad,,b", "film,,a"]
MISTAKES = [
    (["good,,a", "bad,,", "film,,b"], {}, r"row 3 of .*a.csv must have a label, got ''"),
    (ROWS, {"text": "txt"}, r"got 'txt'. Did you mean 'text'\? There are \['label', 'other', 'text'\]"),
    (ROWS, {"text": ""}, "data.text must be the name of a column"),
    (ROWS, {"tokenizer": ""}, "data.tokenizer must be set for the texts of 'text_rows'"),
    (ROWS, {"length": 0}, "data.length must be set for the texts"),
    (ROWS, {"label": "other"}, "must have a label"),
    (["good,,a", "bad,,a"], {}, "data.label must have at least two classes.*got 1 values in 2 rows"),
    ([f"good,,{row}" for row in range(30)], {}, "got 30 values in 30 rows"),
    (
        [*ROWS, "bad,,c"],
        {"splits": {"train": "[:75%]", "test": "[75%:]"}},
        r"row 5 of .* must have one of the 2 classes",
    ),
    (ROWS, {"splits": {"train": "[:]", "test": "[:20%]"}}, "data.splits.test must have at least one text"),
    (ROWS, {"splits": {"train": "[:150%]"}}, "data.splits.train must be a part"),
    (ROWS, {"path": "", "splits": {"train": "[:]"}}, "data.path must be a file for data.splits.train"),
    (ROWS, {"path": "absent.csv"}, "got no file 'absent.csv'"),
]


@pytest.mark.parametrize(("rows", "options", "message"), MISTAKES)
def test_mistakes(tmp_path, folders, rows, options, message):
    with pytest.raises(UserError, match=message):
        load(**{"path": write(tmp_path / "a.csv", rows), "folders": folders, "splits": {"train": "[:]"}} | options)


TYPED = [
    ({"text": 5, "label": 0}, r"row 2 of .*a.jsonl must have a string as text, got 5 \(int\)"),
    ({"text": None, "label": 0}, "row 2 of .* must have a string as text, got None"),
    (
        {"text": "\ud800", "label": 0},
        r"row 2 of .*a.jsonl must be Unicode, got half of a surrogate pair .*Correct the row",
    ),
    ({"text": "bad", "label": "b"}, r"row 2 of .* must have a label of the type int.*got 'b' \(str\)"),
    ({"text": "bad", "label": True}, r"must have a label of the type int.*got True \(bool\)"),
    ({"text": "bad", "label": 0.5}, r"row 2 of .* must have a string or an integer as label, got 0.5 \(float\)"),
    ({"text": "bad", "label": None}, "row 2 of .* must have a label, got None"),
]


@pytest.mark.parametrize(("row", "message"), TYPED)
def test_mistakes_of_types(tmp_path, folders, row, message):
    rows = [{"text": "good", "label": 1}, row, {"text": "film", "label": 2}]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(UserError, match=message):
        load(tmp_path / "a.jsonl", folders, splits={"train": "[:]"})


def test_a_text_without_tokens(tmp_path, folders):
    gpt2 = write_byte_level(tmp_path / "gpt2", PIECES)
    with pytest.raises(UserError, match=r"row 3 of .* must have a text with tokens, got '', one of 1 without"):
        load(write(tmp_path / "a.csv", ["good,,a", ",,b"]), folders, tokenizer=gpt2, splits={"train": "[:]"})
