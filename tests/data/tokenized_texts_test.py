"""Texts as tokens: padding, counts, and loaders that agree."""

import numpy as np
import pytest

from jaxdistill.config.schema import DataConfig
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


def test_loaders_give_the_same_batches(dataset):
    split = dataset.split("train")
    resident = loader.Resident.of(split, seed=0, batch=2, classes=2)
    streamed = loader.Streamed(split, 0, 2, 2)
    for held, read in zip(resident.step_inputs(0, 3), streamed.step_inputs(0, 3), strict=True):
        batch = resident.make_batch(resident.resident, held)
        assert {*batch} - {"mask"} == {*read}
        for name, array in read.items():
            np.testing.assert_array_equal(batch[name], array, name)


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
