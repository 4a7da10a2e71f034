"""Part of a training split: partitions, classes, subsets, hidden labels, and all of them at once."""

import numpy as np
import pytest

from jaxdistill.config import load as configs
from jaxdistill.core import UNLABELLED
from jaxdistill.data import datasets, subsets
from jaxdistill.data.dataset import Arrays, Dataset
from jaxdistill.errors import UserError

DIGITS = datasets.load("digits")
LABELS = DIGITS.split("train").labels()


def chosen(dataset=DIGITS, **data):
    settings = configs.stages({"data": data})["train"].data
    return subsets.choose(dataset, settings)


def test_few_labels():
    split = DIGITS.split("train")
    few = chosen(labels_per_class=3)
    labels = few.labels()
    np.testing.assert_array_equal(np.bincount(labels[labels >= 0]), [3] * 10)
    np.testing.assert_array_equal(labels[labels >= 0], split.labels()[labels >= 0])
    np.testing.assert_array_equal(few.take(np.arange(50))["label"], labels[:50])
    assert (labels == UNLABELLED).sum() == 1077 - 30


@pytest.mark.parametrize("by", ["iid", "class", "dirichlet"])
@pytest.mark.parametrize("of", [1, 4, 10])
def test_parts_are_disjoint_and_together_all(by, of):
    parts = subsets.partition(LABELS, of, by, concentration=0.1, seed=0)
    assert len(parts) == of
    assert min(map(len, parts)) > 0
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(LABELS)))
    again, other = (subsets.partition(LABELS, of, by, concentration=0.1, seed=seed) for seed in (0, 1))
    assert all(map(np.array_equal, parts, again))
    assert of == 1 or not all(map(np.array_equal, parts, other))
    assert all((np.diff(part) > 0).all() and part.dtype == np.int32 for part in parts)


def test_contents_of_parts():
    iid = subsets.partition(LABELS, 4, "iid", concentration=0.5, seed=0)
    assert {len(part) for part in iid} == {269, 270}
    assert all(len(np.unique(LABELS[part])) == 10 for part in iid)
    classes = [set(LABELS[part]) for part in subsets.partition(LABELS, 4, "class", concentration=0.5, seed=0)]
    assert sorted(map(len, classes)) == [2, 2, 3, 3]
    assert sum(map(len, classes)) == len(set.union(*classes)) == 10

    def spread(concentration):
        """How far the parts' shares of a class are from each other."""
        parts = subsets.partition(LABELS, 4, "dirichlet", concentration=concentration, seed=0)
        counts = np.array([np.bincount(LABELS[part], minlength=10) for part in parts])
        return (counts / counts.sum(0)).std(0).mean()

    # The standard deviation of a coordinate of Dirichlet(c, c, c, c) is sqrt(3 / (16 (4 c + 1))).
    for concentration in (0.1, 1.0, 1000.0):
        np.testing.assert_allclose(spread(concentration), np.sqrt(3 / (16 * (4 * concentration + 1))), rtol=0.35)


def test_no_part_is_empty_even_where_a_class_goes_to_one():
    labels = np.zeros(12, np.int32)
    for seed in range(20):
        parts = subsets.partition(labels, 6, "dirichlet", concentration=1e-3, seed=seed)
        assert min(map(len, parts)) == 1
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(12))


BAD_PARTITIONS = [
    (dict(of=11, by="class"), "of=11 parts by class, and there are examples of 10 classes"),
    (dict(of=2000, by="iid"), "of=2000 parts of 1077 examples"),
    (dict(by="classes"), "data.partition.by must be a rule of partitions, got 'classes'. Did you mean 'class'"),
    (dict(by="dirichlet", concentration=0.0), "concentration must be greater than 0 and finite, got 0.0"),
    (dict(seed=-1), "seed must be at least 0 and finite, got -1"),
    (dict(of=4, part=4), "part=4 of 4 parts; they are numbered 0 to 3"),
    (dict(of=0), "of must be at least 1 and finite, got 0"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_PARTITIONS, ids=lambda x: str(x)[:40])
def test_invalid_partitions_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        chosen(partition=dict(of=2) | changed)


def test_a_part_keeps_the_index_of_the_whole():
    part = chosen(partition=dict(of=3, part=1, by="dirichlet"))
    assert part.base is DIGITS.split("train")
    expected = subsets.partition(LABELS, 3, "dirichlet", concentration=0.5, seed=0)[1]
    np.testing.assert_array_equal(part.index(np.arange(len(part))), expected)
    taken, whole = part.take(np.array([5, 0])), DIGITS.split("train").take(expected[[5, 0]])
    np.testing.assert_array_equal(taken["image"], whole["image"])
    np.testing.assert_array_equal(part.labels()[[5, 0]], whole["label"])


def test_only_some_classes():
    assert set(chosen(classes=("3", 7)).labels()) == {3, 7}
    named = Dataset(DIGITS.splits, ("zero", "7", *"abcdefgh"), DIGITS.shape)
    assert set(chosen(named, classes=("7", 7, "zero")).labels()) == {0, 1, 7}  # a name goes before a number
    with pytest.raises(UserError, match="data.classes must be a class, got 'sero'. Did you mean 'zero'"):
        chosen(named, classes=("sero",))
    for unknown in (10, -1, "10"):
        with pytest.raises(UserError, match="data.classes must be a class"):
            chosen(classes=(unknown,))


def test_subsets_nest():
    quarter, half, fifty = (
        chosen(subset=dict(fraction=0.25)),
        chosen(subset=dict(fraction=0.5)),
        chosen(subset=dict(count=50)),
    )
    assert (len(quarter), len(half), len(fifty)) == (269, 538, 50)
    assert set(fifty.indices) < set(quarter.indices) < set(half.indices)
    assert set(fifty.indices) != set(chosen(subset=dict(count=50, seed=1)).indices)
    for wrong, message in [
        (dict(fraction=0.0), "fraction must be above 0 and at most 1, got 0.0"),
        (dict(fraction=1.5), "fraction must be above 0 and at most 1, got 1.5"),
        (dict(count=2000), "count=2000 of 1077 examples"),
        (dict(count=5, fraction=0.5), "set one of them"),
        (dict(count=-1), "count must be at least 0 and finite, got -1"),
        (dict(seed=-1), "seed must be at least 0 and finite, got -1"),
    ]:
        with pytest.raises(UserError, match=message):
            chosen(subset=wrong)


def test_hidden_labels():
    assert (chosen(unlabelled=True).labels() == UNLABELLED).all()
    assert len(chosen(unlabelled=True)) == 1077
    hidden = chosen(hide_labels_of=(0, "9")).labels()
    np.testing.assert_array_equal(hidden == UNLABELLED, np.isin(LABELS, [0, 9]))
    few = chosen(hide_labels_of=(0,), labels_per_class=4).labels()
    np.testing.assert_array_equal(np.bincount(few[few >= 0], minlength=10), [0] + [4] * 9)
    with pytest.raises(UserError, match="data.unlabelled hides every label"):
        chosen(unlabelled=True, labels_per_class=5)


def test_everything_at_once():
    """A part, of it three classes, of those a half, of that two labels of each class but one."""
    split = chosen(
        partition=dict(of=2, part=1),
        classes=(1, 2, 3),
        subset=dict(fraction=0.5),
        labels_per_class=2,
        hide_labels_of=(3,),
    )
    part = subsets.partition(LABELS, 2, "iid", concentration=0.5, seed=0)[1]
    of_classes = part[np.isin(LABELS[part], [1, 2, 3])]
    assert set(split.indices) < set(of_classes)
    assert len(split) == round(len(of_classes) / 2)
    labels = split.labels()
    np.testing.assert_array_equal(np.bincount(labels[labels >= 0], minlength=4), [0, 2, 2, 0])
    seen = split.indices[labels >= 0]
    np.testing.assert_array_equal(LABELS[seen], labels[labels >= 0])
    np.testing.assert_array_equal(split.take(np.arange(len(split)))["label"], labels)


def test_no_example_is_left():
    first = subsets.partition(LABELS, 10, "class", concentration=0.5, seed=0)[0]
    other = next(c for c in range(10) if c not in LABELS[first])
    with pytest.raises(UserError, match="leaves no example to train on"):
        chosen(partition=dict(of=10, by="class"), classes=(other,))


def test_choices_by_label_need_labels():
    split = Arrays(np.zeros((6, 2, 2, 1), np.uint8), np.full(6, UNLABELLED, np.int32))
    blind = Dataset({"train": split}, tuple("abc"), (2, 2, 1))
    for data in (
        dict(classes=("a",)),
        dict(labels_per_class=1),
        dict(hide_labels_of=("a",)),
        dict(partition=dict(of=2, by="class")),
    ):
        with pytest.raises(UserError, match="goes by labels, and the training split has examples without"):
            chosen(blind, **data)
    assert len(chosen(blind, partition=dict(of=2, by="iid"))) == 3


def test_only_what_needs_labels_reads_them():
    class Unread(Arrays):
        def labels(self):
            raise AssertionError

    unread = Dataset({"train": Unread(np.zeros((6, 2, 2, 1), np.uint8), np.zeros(6, np.int32))}, ("a",), (2, 2, 1))
    assert len(chosen(unread, partition=dict(of=2), subset=dict(count=2), unlabelled=True)) == 2
