"""Several splits as one: places, indices, and the same batches whether resident or streamed."""

import jax
import numpy as np
import pytest

from jaxdistill.data import loader
from jaxdistill.data.dataset import Arrays
from jaxdistill.data.loader import ProcessShard, Resident, Streamed
from jaxdistill.data.mixture import Converted, Mixture
from jaxdistill.data.noise import Noise
from jaxdistill.data.subsets import Hidden, Subset


def arrays(rows, seed, dtype=np.uint8):
    image = np.random.default_rng(seed).integers(0, 256, (rows, 4, 3, 2)).astype(dtype)
    return Arrays(image if dtype == np.uint8 else image / 255, (np.arange(rows) % 5).astype(np.int32))


def mixture():
    """A part of a set with hidden labels, another set, and noise."""
    first = arrays(23, 0)
    part = Subset(Hidden(first, np.arange(23) < 9), np.array([1, 2, 5, 8, 13, 21], np.int32))
    return Mixture((part, arrays(11, 1), Noise((4, 3, 2), 7)), (1.0, 0.5, 0.25))


def test_places_and_indices():
    mixed = mixture()
    assert (len(mixed), len(mixed.base)) == (6 + 11 + 7, 23 + 11 + 7)
    index = mixed.index(np.arange(24))
    assert list(index) == [1, 2, 5, 8, 13, 21, *range(23, 34), *range(34, 41)]
    places = np.array([23, 0, 6, 5, 16, 17, 0])
    taken, again = mixed.take(places), mixed.base.take(mixed.index(places))
    for key in ("image", "label"):
        np.testing.assert_array_equal(taken[key], again[key])
    np.testing.assert_array_equal(taken["image"][[1, 6]], arrays(23, 0).image[[1, 1]])
    np.testing.assert_array_equal(taken["image"][2], arrays(11, 1).image[0])
    np.testing.assert_array_equal(taken["label"], [-1, 1, 0, -1, 0, -1, 1])
    np.testing.assert_array_equal(mixed.labels()[places], taken["label"])
    assert mixed.base.base is mixed.base


def raw(made, fed):
    return jax.tree.map(np.asarray, made.make_batch(made.resident, fed))


@pytest.mark.parametrize("split", [mixture(), mixture().members[0]], ids=["mixture", "part"])
def test_resident_and_streamed_give_the_same_batches(split):
    held, streamed = Resident.of(split, seed=5, batch=8, classes=5), Streamed(split, 5, 8, 5)
    for one, other in zip(held.step_inputs(3, 12), streamed.step_inputs(3, 12), strict=True):
        one, other = raw(held, one), raw(streamed, other)
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one["image"], split.base.take(one["index"])["image"])


def test_parts_of_processes_make_the_whole_batch():
    split = mixture()
    whole = next(Resident.of(split, seed=5, batch=8, classes=5).step_inputs(2, 3))
    parts = [next(Streamed(split, 5, 8, 5, ProcessShard((number,), 2)).step_inputs(2, 3)) for number in (0, 1)]
    for key in ("index", "view"):
        np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), whole[key])


def test_once_goes_over_a_part_by_its_indices():
    part = mixture().members[0]
    seen = list(loader.iterate_once(part, 4, 5))
    index = np.concatenate([batch["index"][batch["mask"] > 0] for batch in seen])
    np.testing.assert_array_equal(index, part.indices)
    images = np.concatenate([batch["image"][batch["mask"] > 0] for batch in seen])
    np.testing.assert_array_equal(images, arrays(23, 0).image[part.indices])


def test_images_of_another_type_are_written_in_the_units_of_the_first():
    floats = arrays(6, 2, np.float32)
    converted = Converted(floats, np.dtype(np.uint8))
    image = converted.take(np.array([3, 1]))["image"]
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.round(floats.image[[3, 1]] * 255))
    np.testing.assert_array_equal(converted.labels(), floats.label)
