"""Featurizers: fitted once, stored without pickles, applied elsewhere, and the tables that they refuse."""

import numpy as np
import pytest
from scipy import sparse

from jaxdistill.data.tables import Table, apply, fit, load
from jaxdistill.errors import UserError

DRAW = np.random.default_rng(0)
STEPS = ("indicator", "impute:mean", "clip:0.1", "standardize", "denoise:2", "onehot:colour", "hash:3", "pca:4")


def make_table(count, target=False):
    numbers = DRAW.normal(size=(count, 3))
    numbers[::4, 1] = np.nan
    strings = {name: DRAW.choice(["r", "g", "b"], count) for name in ("colour", "size")}
    target_or_label = {"target": 5 + 2 * DRAW.normal(size=count)} if target else {"label": np.zeros(count, np.int32)}
    return Table(numbers, ("x", "y", "z"), strings, **target_or_label)


def test_a_stored_featurizer_gives_the_same_bits(tmp_path):
    featurizer, new = fit(STEPS, make_table(20)), make_table(7)
    featurizer.save(tmp_path / "featurizer.npz")
    stored = load(tmp_path)
    assert stored.transforms == STEPS
    assert stored.digest() == featurizer.digest()
    features = apply(stored, new)
    assert features.dtype == np.float32
    assert features.shape == (7, 4)
    np.testing.assert_array_equal(features, apply(featurizer, new))
    with np.load(tmp_path / "featurizer.npz", allow_pickle=False) as arrays:
        assert all(array.dtype != object for array in arrays.values())


def test_a_target_without_numbers_is_refused_by_its_name():
    target = np.stack([np.arange(4.0), np.full(4, np.nan)], -1)
    table = Table(np.zeros((4, 1)), ("x",), target=target)
    with pytest.raises(UserError, match="data.targets must be columns with numbers .*, got none in 'rain'. Fill"):
        fit([], table, ("wind", "rain"))


def test_an_example_is_transformed_alone_as_it_is_among_others():
    featurizer, new = fit(STEPS, make_table(20)), make_table(5)
    np.testing.assert_allclose(apply(featurizer, new.select(np.array([3])))[0], apply(featurizer, new)[3], atol=1e-6)


def test_the_digest_depends_on_the_training_split_and_on_the_transforms():
    digests = {fit(steps, make_table(20)).digest() for steps in (STEPS, STEPS, STEPS[:-1])}
    assert len(digests) == 3


def test_targets_are_standardised_by_those_that_are_present():
    table = Table(np.zeros((4, 1)), ("x",), target=np.array([1.0, 3.0, np.nan, np.nan]))
    assert fit((), table).targets == ((2.0, 1.0),)
    constant = Table(np.zeros((2, 1)), ("x",), target=np.array([4.0, 4.0]))
    assert fit((), constant).targets == ((4.0, 1.0),)
    with pytest.raises(UserError, match="data.target must be a column with numbers in the training split, got none"):
        fit((), Table(np.zeros((1, 1)), ("x",), target=np.array([np.nan])))


@pytest.mark.parametrize(
    ("steps", "table", "message"),
    [
        (("impute:mean",), make_table(5), r"must encode the columns of strings \['colour', 'size'\]"),
        (
            ("onehot",),
            make_table(5),
            "must leave finite numbers, got a missing value in column 'y' of example 0. Add",
        ),
        (("pca:2",), make_table(5), "'pca:2' must get no missing values, got some. Put 'impute:median' before it"),
        (("pca:2",), Table(np.zeros((2, 0)), (), {"t": np.array(["a", "b"])}), "must get columns of numbers, got the"),
        (("standardize",), Table(sparse.eye(3, format="csr"), tuple("abc")), "'standardize' must get dense numbers"),
        ((), Table(np.array([[np.inf]]), ("a",)), "got an infinite value in column 'a'"),
    ],
)
def test_a_table_that_does_not_become_finite_numbers_is_refused(steps, table, message):
    with pytest.raises(UserError, match=message):
        apply(fit(steps, table), table)


def test_other_columns_than_those_of_the_fit_are_refused():
    featurizer = fit(("standardize",), Table(np.eye(3), ("x", "y", "z")))
    with pytest.raises(UserError, match=r"columns of a table must be those that its featurizer was fitted on"):
        apply(featurizer, Table(np.eye(3), ("y", "x", "z")))


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="data.featurizer must be a folder with featurizer.npz, got no file"):
        load(tmp_path)
    (tmp_path / "featurizer.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="must be a featurizer's file, got one that is damaged"):
        load(tmp_path)
    np.savez(tmp_path / "featurizer.npz", transforms=["pca:1"])
    with pytest.raises(UserError, match="must be a featurizer's file, got one that is damaged"):
        load(tmp_path / "featurizer.npz")
