"""Resident against streamed, whole splits with padding, statistics."""

import jax
import numpy as np
import pytest

from jaxdistill.data import datasets, loader
from jaxdistill.data.dataset import Arrays
from jaxdistill.data.dense import DenseArrays
from jaxdistill.data.loader import ProcessShard, Resident, Stacked, Streamed
from jaxdistill.data.subsets import Hidden, Subset
from jaxdistill.errors import UserError

ROWS = 23


def split(rows=ROWS, dtype=np.uint8):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (rows, 4, 3, 2)).astype(dtype)
    return Arrays(image, (np.arange(rows) % 5).astype(np.int32))


def raw(made, fed):
    return jax.tree.map(np.asarray, made.make_batch(made.resident, fed))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resident_and_streamed_give_the_same_batches_and_resume_at_the_position(dtype):
    held = Resident.of(split(dtype=dtype), seed=5, batch=8, classes=5)
    streamed = Streamed(split(dtype=dtype), seed=5, batch=8, classes=5)
    ours = [raw(held, fed) for fed in held.step_inputs(0, 9)]
    theirs = [raw(streamed, fed) for fed in streamed.step_inputs(0, 9)]
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype
    for made in (held, streamed):
        for late, whole in zip(made.step_inputs(6, 9), ours[6:], strict=True):
            np.testing.assert_array_equal(raw(made, late)["image"], whole["image"])


def test_parts_of_processes_make_the_whole_batch():
    whole = next(Resident.of(split(), seed=5, batch=8, classes=5).step_inputs(2, 3))
    parts = [next(Streamed(split(), 5, 8, 5, ProcessShard((number,), 2)).step_inputs(2, 3)) for number in (0, 1)]
    np.testing.assert_array_equal(np.concatenate([part["index"] for part in parts]), whole["index"])
    np.testing.assert_array_equal(parts[1]["image"], split().image[whole["index"][4:]])


@pytest.mark.parametrize("kind", [Resident.of, Streamed])
def test_a_process_reads_blocks_that_are_not_neighbours(kind):
    whole = next(Resident.of(split(), seed=5, batch=8, classes=5).step_inputs(2, 3))
    part = next(kind(split(), seed=5, batch=8, classes=5, shard=ProcessShard((0, 2), 4)).step_inputs(2, 3))
    np.testing.assert_array_equal(part["index"], whole["index"][[0, 1, 4, 5]])
    once = next(loader.iterate_once(split(), 8, 5, ProcessShard((1, 3), 4)))
    np.testing.assert_array_equal(once["index"], [2, 3, 6, 7])


@pytest.mark.parametrize("kind", [Resident.of, Streamed])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_together_see_every_example_equally_often_where_epochs_end_within_a_batch(kind, processes):
    parts = [
        kind(split(), seed=5, batch=8, classes=5, shard=ProcessShard((k,), processes)).step_inputs(0, ROWS)
        for k in range(processes)
    ]
    seen = np.zeros(ROWS, int)
    for feds in zip(*parts, strict=True):
        together = np.concatenate([fed["index"] for fed in feds])
        assert len(together) == 8
        np.add.at(seen, together, 1)
        assert seen.max() - seen.min() <= 1
    assert (seen == 8).all()  # 23 batches of 8 are 8 times 23 examples


@pytest.mark.parametrize("batch", [1, 4, 22, 23, 64])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_whole_split_is_seen_once_whatever_the_batch(batch, processes):
    if batch % processes:
        pytest.skip("refused before it comes to this")
    seen = []
    for number in range(processes):
        for part in loader.iterate_once(split(), batch, 5, ProcessShard((number,), processes)):
            assert len(part["mask"]) == batch // processes
            seen += list(part["index"][part["mask"] > 0])
            np.testing.assert_array_equal(part["image"], split().image[part["index"]])
    assert sorted(seen) == list(range(ROWS))


def test_labels_out_of_range_and_images_that_are_not_finite_are_named():
    with pytest.raises(UserError, match="labels from 0 to 4; with 3 classes they are 0 to 2"):
        Resident.of(split(), seed=0, batch=4, classes=3)
    broken = split(dtype=np.float32)
    broken.image[17, 0, 0, 0] = np.inf
    with pytest.raises(UserError, match="not finite in 1 of 23 examples, the first at index 17"):
        Resident.of(broken, seed=0, batch=4, classes=5)
    with pytest.raises(UserError, match="the first at index 17"):
        list(Streamed(broken, 0, 4, 5).step_inputs(0, 6))


def test_statistics_by_hand():
    image = np.zeros((2, 1, 2, 2), np.uint8)
    image[..., 0] = [[[0, 255]], [[255, 255]]]
    mean, std = loader.statistics(Arrays(image, np.zeros(2, np.int32)))
    np.testing.assert_allclose(mean, [0.75, 0.0])
    np.testing.assert_allclose(std, [np.sqrt(0.1875), 1.0])  # a constant channel is left as it is


def test_statistics_do_not_depend_on_chunks():
    large = split(rows=3000)
    mean, std = loader.statistics(large)
    np.testing.assert_allclose(mean, large.image.reshape(-1, 2).mean(0) / 255, rtol=1e-12)
    np.testing.assert_allclose(std, large.image.reshape(-1, 2).std(0) / 255, rtol=1e-9)
    sampled, _ = loader.statistics(large, examples=1000)
    assert sampled != mean
    np.testing.assert_allclose(sampled, mean, rtol=0.05)


def test_tfds_streams_what_it_holds(tfds_dir):
    mnist = datasets.load("mnist", data_dir=tfds_dir, splits={"train": "train[:100]"}).split("train")
    arrays = Arrays(**mnist.take(np.arange(100)))
    held = Resident.of(arrays, seed=0, batch=16, classes=10)
    for one, other in zip(held.step_inputs(5, 9), Streamed(mnist, 0, 16, 10).step_inputs(5, 9), strict=True):
        np.testing.assert_array_equal(raw(held, one)["image"], other["image"])


def test_lanes_share_what_is_held_and_see_the_labels_of_their_parts():
    """Two halves, each with some labels hidden: a batch of both is that of each."""
    whole = split()
    visible = np.arange(ROWS) % 3 == 0
    halves = [np.arange(0, 12, dtype=np.int32), np.arange(12, ROWS, dtype=np.int32)]
    parts = [Subset(Hidden(whole, visible & np.isin(np.arange(ROWS), half)), half) for half in halves]
    single = [Resident.of(part, seed=lane, batch=8, classes=5) for lane, part in enumerate(parts)]
    lanes = Stacked.of(Resident.of(part, seed=lane, batch=8, classes=5) for lane, part in enumerate(parts))
    assert lanes.resident["image"].shape[0] == ROWS
    for lane, made in enumerate(single):
        for together, alone in zip(lanes.step_inputs(0, 4), made.step_inputs(0, 4), strict=True):
            ours, theirs = raw(lanes, together), raw(made, alone)
            for name in theirs:
                np.testing.assert_array_equal(ours[name][lane], theirs[name], err_msg=name)
    seen = [Subset(Hidden(whole, visible & (np.arange(ROWS) < limit)), halves[1]) for limit in (ROWS, 15)]
    with pytest.raises(UserError, match="lanes differ in whether they see the label"):
        Stacked.of(Resident.of(part, seed=0, batch=8, classes=5) for part in seen)


def test_lanes_share_masks_and_streamed_masks_are_those_that_are_held():
    fields = {"image": split().image, "label_map": np.arange(ROWS * 4, dtype=np.int32).reshape(ROWS, 2, 2) % 5}
    masks = DenseArrays(fields)
    lanes = Stacked.of(Resident.of(masks, seed=lane, batch=8, classes=5) for lane in range(2))
    alone = Resident.of(masks, seed=1, batch=8, classes=5)
    streamed = Streamed(masks, seed=1, batch=8, classes=5)
    for together, one, read in zip(*(each.step_inputs(0, 2) for each in (lanes, alone, streamed)), strict=True):
        expected = alone.make_batch(alone.resident, one)
        assert {*expected} == {"image", "label_map", "index", "view", "mask"}
        for name, array in expected.items():
            np.testing.assert_array_equal(lanes.make_batch(lanes.resident, together)[name][1], array)
            np.testing.assert_array_equal(streamed.make_batch({}, read)[name], array)
    with pytest.raises(UserError, match=r"label_map of a batch must be in \[0, 4\) or -1, got 0 to 4"):
        Resident.of(masks, seed=0, batch=8, classes=4)
