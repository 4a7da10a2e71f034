"""The order of examples: of a split, and of a mixture by weight."""

import itertools

import numpy as np
import pytest

from jaxdistill.data import sampling
from jaxdistill.data.dataset import Arrays
from jaxdistill.data.mixture import Mixture
from jaxdistill.data.subsets import Subset

ROWS = 23


@pytest.mark.parametrize("batch", [1, 7, 23, 50])
def test_every_example_is_dealt_equally_often(batch):
    """In any run of 23 dealt examples from an epoch's start each comes once, also where a batch spans epochs."""
    dealt = [sampling.sample_positions(3, ROWS, batch, step) for step in range(200 // batch)]
    index, view = (np.concatenate(part) for part in zip(*dealt, strict=True))
    for epoch in range(len(index) // ROWS):
        rows = slice(epoch * ROWS, (epoch + 1) * ROWS)
        assert sorted(index[rows]) == list(range(ROWS))
        assert (view[rows] == epoch).all()
    assert not np.array_equal(index[:ROWS], index[ROWS : 2 * ROWS])


def test_order_depends_on_seed_and_step_alone():
    assert np.array_equal(sampling.sample_positions(0, ROWS, 7, 11)[0], sampling.sample_positions(0, ROWS, 7, 11)[0])
    assert not np.array_equal(
        sampling.sample_positions(0, ROWS, 23, 0)[0], sampling.sample_positions(1, ROWS, 23, 0)[0]
    )


WEIGHTS = [(1.0,), (1.0, 1.0), (1.0, 0.1), (1 / 3, 2 / 3, 1.0), (0.7, 1e-3, 12.0, 0.7, 5.0)]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_turns_are_in_proportion_and_only_grow(weights):
    """Counted at once they are what one by one they are: each row goes to the member that is due first."""
    share = np.array(weights) / np.sum(weights)
    counts = np.zeros(len(weights), int)
    for rows in range(400):
        np.testing.assert_array_equal(sampling.quotas(weights, rows), counts)
        counts[np.argmin((counts + 0.5) / share)] += 1
    for rows in (10**6 + 7, 10**9 + 1):
        far = sampling.quotas(weights, rows)
        assert far.sum() == rows
        assert np.abs(far - rows * share).max() < len(weights)
        assert (sampling.quotas(weights, rows + 1) - far >= 0).all()


def arrays(rows, shade):
    return Arrays(np.full((rows, 2, 2, 1), shade, np.uint8), np.full(rows, shade, np.int32))


def test_members_are_dealt_each_from_its_own_endless_sequence():
    part = Subset(arrays(30, 1), np.array([3, 4, 8, 20, 29], np.int32))
    mixture = Mixture((arrays(7, 0), part, arrays(7, 2)), (2.0, 1.0, 1.0))
    dealt = [sampling.sample_indices(mixture, 5, 6, step) for step in range(140)]
    index, view = (np.concatenate(each) for each in zip(*dealt, strict=True))
    member = mixture.base.take(index)["label"]
    np.testing.assert_array_equal(np.bincount(member), [420, 210, 210])
    for rows, _ in dealt:
        assert (np.abs(np.bincount(mixture.base.take(rows)["label"], minlength=3) - [3, 1.5, 1.5]) <= 1).all()
    starts, there = (0, 7, 37), (range(7), (3, 4, 8, 20, 29), range(7))
    for number in range(3):
        own, epochs = index[member == number] - starts[number], view[member == number]
        for epoch in range(epochs.max()):
            assert sorted(own[epochs == epoch]) == list(there[number])
    # Mixing transforms meet pairs of every kind.
    pairs = {
        (a, b)
        for rows, _ in dealt
        for kinds in [mixture.base.take(rows)["label"]]
        for a, b in zip(kinds, kinds[::-1], strict=True)
    }
    assert pairs == set(itertools.product(range(3), repeat=2))


def test_sets_of_one_size_are_not_dealt_in_step():
    mixture = Mixture((arrays(7, 0), arrays(7, 1)), (1.0, 1.0))
    pairs = np.sort([sampling.sample_indices(mixture, 5, 2, step)[0] for step in range(14)])
    assert (pairs[:, 0] < 7).all()
    assert (pairs[:, 0] != pairs[:, 1] - 7).any()


def test_a_part_is_dealt_by_its_index_in_the_whole():
    part = Subset(arrays(30, 1), np.array([3, 4, 8, 20, 29], np.int32))
    index, view = sampling.sample_indices(part, 0, 5, 2)
    assert sorted(index) == [3, 4, 8, 20, 29]
    assert (view == 2).all()
    np.testing.assert_array_equal(index, part.indices[sampling.sample_positions(0, 5, 5, 2)[0]])


class Lengths(Arrays):
    """Examples of 1 to 9 tokens."""

    @property
    def token_counts(self):
        return (7 * self.label % 9 + 1).astype(np.int32)


def test_a_pool_of_batches_holds_its_examples_sorted_by_length():
    rows = Lengths(np.zeros((40, 1, 1, 1), np.uint8), np.arange(40, dtype=np.int32))
    split = Subset(rows, np.arange(3, 40, dtype=np.int32))
    orders = set()
    for number in range(6):
        plain, dealt = (
            [sampling.sample_indices(split, 5, 4, 3 * number + place, pool=pool) for place in range(3)]
            for pool in (0, 3)
        )
        pairs = [sorted(zip(*map(np.concatenate, zip(*part, strict=True)), strict=True)) for part in (plain, dealt)]
        assert pairs[0] == pairs[1]
        counts = [rows.token_counts[index] for index, _ in dealt]
        shortest_first = sorted(counts, key=lambda count: (count.max(), count.min()))
        assert (np.diff(np.concatenate(shortest_first)) >= 0).all()
        orders.add(tuple(int(count.max()) for count in counts))
    assert len(orders) > 3
    again = sampling.sample_indices(split, 5, 4, 17, pool=3)
    np.testing.assert_array_equal(again, dealt[2])
