"""Texts as tokens: padding, counts, and loaders that agree."""

import numpy as np
import pytest

from jaxdistill.config.schema import DataConfig, SplitsConfig
from jaxdistill.data import build, loader
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.subsets import Hidden
from jaxdistill.data.tokenized_texts import TextRows, check_settings, check_texts, tokenize
from jaxdistill.errors import UserError
from tokenizer_files import write_unigram, write_wordpiece

TEXTS = ["good film", "bad", "the good film, bad film", "un"]


def place(role, position):
    return f"{role} row {position}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    words, pieces = write_wordpiece(folder / "words"), write_unigram(folder / "pieces")
    settings = DatasetSettings("rows", tokenizer=words, teacher_tokenizer=pieces, length=6)
    label = np.array([0, 1, 0, 1], np.int32)
    return tokenize({"train": TextRows(TEXTS, None, label)}, ("bad", "good"), settings, place)


def test_both_tokenizers_read_the_same_texts(dataset):
    split = dataset.split("train")
    batch = split.take(np.array([2, 1]))
    assert batch["tokens"].tolist() == [[2, 12, 5, 6, 11, 3], [2, 7, 3, 0, 0, 0]]
    assert batch["teacher_tokens"].tolist() == [[5, 2, 3, 4, 2, 1], [5, 2, 1, 0, 0, 0]]
    assert batch["teacher_token_mask"].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert {*batch} == {"tokens", "token_mask", "word", "label", "teacher_tokens", "teacher_token_mask"}
    assert split.token_counts.tolist() == [4, 3, 6, 3]
    assert Hidden(split, np.zeros(4, bool)).token_counts.tolist() == [4, 3, 6, 3]
    assert dataset.example_bytes == 5 * 6 * 4


@pytest.mark.parametrize("pool", [0, 2])
def test_loaders_give_the_same_batches(dataset, pool):
    split = dataset.split("train")
    resident = loader.Resident.of(split, seed=0, batch=2, classes=2, pool=pool)
    streamed = loader.Streamed(split, 0, 2, 2, pool=pool)
    for held, read in zip(resident.step_inputs(0, 3), streamed.step_inputs(0, 3), strict=True):
        batch = resident.make_batch(resident.resident, held)
        assert {*batch} - {"mask"} == {*read}
        for name, array in read.items():
            np.testing.assert_array_equal(batch[name], array, name)


def test_all_processes_choose_the_bucket_of_the_whole_batch(dataset):
    split, buckets = dataset.split("train"), (3, 4, 6)
    whole = [*loader.Streamed(split, 0, 2, 2, buckets=buckets).step_inputs(0, 8)]
    widths = [int(part[loader.WIDTH]) for part in whole]
    assert widths == [min(b for b in buckets if b >= split.token_counts[part["index"]].max()) for part in whole]
    assert {*widths} == {*buckets}
    for number in (0, 1):
        shard = loader.ProcessShard((number,), 2)
        parts = [*loader.Streamed(split, 0, 2, 2, shard=shard, buckets=buckets).step_inputs(0, 8)]
        assert [int(part[loader.WIDTH]) for part in parts] == widths
        assert [loader.crop([part])[0]["tokens"].shape for part in parts] == [(1, width) for width in widths]
    narrow, wide = widths.index(3), widths.index(4)
    cropped = loader.crop([whole[narrow], whole[wide]])
    for part, full in zip(cropped, (whole[narrow], whole[wide]), strict=True):
        assert loader.WIDTH not in part
        np.testing.assert_array_equal(part["teacher_tokens"], full["teacher_tokens"][:, :4])
        assert (part["tokens"].shape, part["label"].shape) == ((2, 4), (2,))
    once = [part["tokens"].shape for part in loader.iterate_once(split, 1, 2, buckets=buckets)]
    assert once == [(1, 4), (1, 3), (1, 6), (1, 3)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"buckets": (4, 6)},
            r"data.buckets must be ascending lengths, the last of them data.length=8.*Write \(4, 6, 8\)",
        ),
        ({"buckets": (8, 4)}, "must be ascending lengths"),
        ({"buckets": (0, 8)}, "must be ascending lengths"),
        ({"buckets": (4, 8), "resident": "yes"}, "data.resident must be 'auto' or 'no' with data.buckets, got 'yes'"),
    ],
)
def test_mistakes_of_buckets(tmp_path, keys, message):
    (tmp_path / "a.csv").write_text("text,label\ngood,1\nbad,0\n")
    rows = {"path": str(tmp_path / "a.csv"), "splits": SplitsConfig(train="[:]"), "text": "text", "label": "label"}
    with pytest.raises(UserError, match=message):
        build.open_dataset(DataConfig("text_rows", length=8, tokenizer=write_wordpiece(tmp_path), **rows, **keys))


def test_settings_and_values_that_are_no_texts():
    with pytest.raises(UserError, match=r"data.tokenizer must be set for the texts of 'rows', got ''"):
        check_settings(DatasetSettings("rows", length=8))
    with pytest.raises(UserError, match=r"data.length must be set for the texts of 'rows', got 0"):
        check_settings(DatasetSettings("rows", tokenizer="folder"))
    with pytest.raises(UserError, match=r"test row 1 must have a string as text, got None \(NoneType\)"):
        check_texts(["a", None], "test", place)


@pytest.mark.parametrize("name", ["digits", "arithmetic"])
def test_keys_of_texts_on_other_data(name):
    length = 8 if name == "arithmetic" else 0
    with pytest.raises(UserError, match="data.tokenizer"):
        build.open_dataset(DataConfig(name=name, length=length, tokenizer="folder"))
