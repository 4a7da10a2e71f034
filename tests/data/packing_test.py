"""Packing: rows worked by hand, and every text once and whole."""

import numpy as np
import pytest

from jaxdistill.data import datasets
from jaxdistill.data.packing import first_fit, pack
from jaxdistill.errors import UserError
from tokenizer_files import write_wordpiece


def test_the_longest_items_go_first_into_the_first_bin_with_room():
    assert first_fit(np.array([3, 5, 2, 8, 3, 1]), 8) == [[3], [0, 1], [2, 4, 5]]
    assert first_fit(np.array([4]), 4) == [[0]]


@pytest.mark.parametrize("seed", range(3))
def test_first_fit_of_many_is_that_of_a_search_through_all_bins(seed):
    sizes = np.random.default_rng(seed).integers(1, 17, 200)
    room, bins = [], []
    for item in np.argsort(-sizes, kind="stable"):
        first = next((number for number, left in enumerate(room) if left >= sizes[item]), len(bins))
        if first == len(bins):
            bins.append([])
            room.append(16)
        bins[first].append(int(item))
        room[first] -= sizes[item]
    assert first_fit(sizes, 16) == [sorted(items) for items in bins]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rows = ["good film", "bad", "the good film, bad film", "un", "the film"]
    for name, part in (("a", rows), ("b", rows[:2])):
        (folder / f"{name}.csv").write_text("\n".join(["text", *(f'"{row}"' for row in part)]) + "\n")
    return datasets.load(
        "text_rows",
        path=str(folder / "a.csv"),
        text="text",
        tokenizer=write_wordpiece(folder / "words"),
        length=8,
        splits={"train": "[:]", "test": str(folder / "b.csv")},
    )


def test_rows_hold_each_text_once_and_whole(plain):
    packed = pack(plain).split("train")
    counts = plain.split("train").token_counts
    assert counts.tolist() == [4, 3, 8, 3, 4]
    batch = packed.take(np.arange(len(packed)))
    assert batch["document"].tolist() == [[1] * 8, [1] * 4 + [2] * 4, [1] * 3 + [2] * 3 + [0] * 2]
    assert batch["tokens"].tolist()[1:] == [[2, 5, 6, 3, 2, 12, 6, 3], [2, 7, 3, 2, 8, 3, 0, 0]]
    assert batch["word"].tolist()[1:] == [[-1, 1, 2, -1, -1, 5, 6, -1], [-1, 1, -1, -1, 4, -1, -1, -1]]
    assert batch["token_mask"].tolist() == (batch["document"] > 0).astype(int).tolist()
    assert packed.token_counts.tolist() == [8, 8, 6]
    alone = packed.take(np.array([2]))
    assert all(np.array_equal(alone[name][0], batch[name][2]) for name in batch)


def test_texts_of_an_evaluation_stay_alone(plain):
    packed, before = pack(plain).split("test"), plain.split("test")
    batch, expected = packed.take(np.array([1, 0])), before.take(np.array([1, 0]))
    assert {*batch} == {*expected, "document"}
    assert all(np.array_equal(batch[name], expected[name]) for name in expected)
    assert np.array_equal(batch["document"], batch["token_mask"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("arithmetic", {"length": 8}, "data.packing must be False for data without texts of different lengths"),
        ("sums", {}, "data.packing must be False for data without"),
    ],
)
def test_other_data_is_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        pack(datasets.load(name, **options))
