"""Embedded headlines: their tokens, their classes, and what is refused."""

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.data.readers import headlines
from jaxdistill.errors import UserError


def test_texts_are_words_between_special_tokens():
    dataset = datasets.load("headlines")
    assert {role: len(split) for role, split in dataset.splits.items()} == headlines.ROWS
    assert (dataset.class_names, dataset.vocabulary, dataset.shape) == (headlines.CLASSES, 65, (22,))
    split = dataset.split("train")
    assert (split.token_counts.min(), split.token_counts.max()) == (7, 22)
    batch = split.take(np.arange(2400))
    assert set(batch["tokens"][:, 0]) == {2}
    np.testing.assert_array_equal(batch["word"], np.where(batch["tokens"] > 4, np.arange(22), -1))
    assert len(np.unique(batch["tokens"])) == 3 + 60
    first = " ".join(headlines.VOCABULARY[token] for token in batch["tokens"][0][batch["token_mask"][0] > 0])
    assert first == "[CLS] amid over ceasefire late rebels new on election [SEP]"
    assert datasets.load("headlines", length=10).split("train").token_counts.max() == 10


def test_a_bag_of_words_of_the_classes_finds_most_labels():
    split = datasets.load("headlines").split("test")
    batch = split.take(np.arange(300))
    scores = np.stack([((batch["tokens"] >= 5 + 10 * c) & (batch["tokens"] < 15 + 10 * c)).sum(1) for c in range(4)], 1)
    assert 0.8 < (scores.argmax(1) == batch["label"]).mean() < 0.95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "folder"}, "data.tokenizer must be '' for 'headlines', whose words are tokens, got 'folder'"),
        ({"length": 2}, "data.length must be at least 3"),
        ({"splits": {"train": "[:]"}}, "data.splits must be left out"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        datasets.load("headlines", **options)
