"""Prepared batches, as a library."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import batches
from jaxdistill.data import datasets, loader
from jaxdistill.errors import UserError

DIGITS = datasets.load("digits")


def test_training_batches_are_standardised_and_aligned():
    first, second = batches(DIGITS, "train", seed=0, batch=64, steps=2)
    assert {"image", "label", "valid", "mask", "index", "view"} == {*first}
    assert (first["image"].shape, first["label"].shape, first["valid"].shape) == ((64, 8, 8, 1), (64,), (64,))
    pixels = np.concatenate([np.asarray(batch["image"]) for batch in batches(DIGITS, batch=1077, steps=1)])
    np.testing.assert_allclose([pixels.mean(), pixels.std()], [0, 1], atol=1e-4)
    assert set(np.asarray(first["index"])).isdisjoint(np.asarray(second["index"]))
    again = next(iter(batches(DIGITS, "train", seed=0, batch=64)))
    np.testing.assert_array_equal(first["image"], again["image"])


def test_mapped_examples_are_streamed_in_the_same_order(monkeypatch):
    expected = list(batches(DIGITS, seed=0, batch=64, steps=2))
    monkeypatch.setattr(type(DIGITS.split("train")), "is_mapped", True)
    monkeypatch.delattr(loader.Resident, "of")
    for batch, other in zip(batches(DIGITS, seed=0, batch=64, steps=2), expected, strict=True):
        np.testing.assert_array_equal(batch["image"], other["image"])


def test_augmented_views():
    batch = next(iter(batches(DIGITS, batch=8, augment=("pad_crop:2",), views=2)))
    assert batch["image"].shape == batch["image2"].shape
    assert (batch["image"] != batch["image2"]).any()


def test_another_split_is_yielded_once_in_order():
    parts = list(batches(DIGITS, "test", batch=100))
    assert [int(part["mask"].sum()) for part in parts] == [100, 100, 100, 60]
    index = jnp.concatenate([part["index"] for part in parts])[:360]
    np.testing.assert_array_equal(index, np.arange(360))


def test_texts():
    batch = next(batches(datasets.load("arithmetic", length=16), batch=4))
    np.testing.assert_array_equal(batch["label"][:, :-1], batch["tokens"][:, 1:])
    assert batch["valid"].shape == (4, 16)


def test_an_unknown_role():
    with pytest.raises(UserError, match="Did you mean 'test'"):
        list(itertools.islice(batches(DIGITS, "tset", batch=4), 1))
