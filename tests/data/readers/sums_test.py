"""Sums with answers: their texts, masks and splits."""

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.errors import UserError


def texts(dataset, role):
    split = dataset.split(role)
    rows = split.take(np.arange(len(split)))
    prompt = (rows["token_mask"] > 0) & (rows["answer_mask"] == 0)
    read = [
        [bytes(tokens[mask].astype(np.uint8)).decode() for tokens, mask in zip(rows["tokens"], masks, strict=True)]
        for masks in (prompt, rows["answer_mask"] > 0)
    ]
    return list(zip(*read, strict=True))


def test_answers_are_the_sums_of_their_prompts_and_no_pair_is_in_two_splits():
    dataset = datasets.read(DatasetSettings(name="sums", length=12))
    assert dataset.shape == (12,)
    seen = [pair for role in ("train", "validation", "test") for pair in texts(dataset, role)]
    assert len({prompt for prompt, _ in seen}) == len(seen) == 10_000
    for prompt, answer in seen:
        left, right = prompt.removesuffix("=").split("+")
        assert answer == f"{int(left) + int(right)}\n"
    assert len(dataset.split("train")) == 7000


def test_a_length_without_room_is_refused():
    with pytest.raises(UserError, match=r"data\.length must be at least 10"):
        datasets.read(DatasetSettings(name="sums", length=9))
