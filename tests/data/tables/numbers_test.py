"""Transforms of numbers against values computed by hand."""

import numpy as np
import pytest
from scipy import sparse

from jaxdistill.data.tables import Table, apply, fit
from jaxdistill.errors import UserError

MISSING = np.nan


def make_table(numbers):
    numbers = np.asarray(numbers, np.float64)
    return Table(numbers, tuple("abcdefgh"[: numbers.shape[1]]), label=np.zeros(len(numbers), np.int32))


TRAIN = make_table([[1.0, 10.0, MISSING], [3.0, MISSING, MISSING], [8.0, 20.0, MISSING]])
NEW = make_table([[MISSING, MISSING, 5.0]])


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("impute:mean", [4.0, 15.0, 5.0]),
        ("impute:median", [3.0, 15.0, 5.0]),
        ("impute:constant,7", [7.0, 7.0, 5.0]),
    ],
)
def test_missing_values_are_those_of_the_training_split(transform, expected):
    np.testing.assert_allclose(apply(fit([transform], TRAIN), NEW), [expected])


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_a_column_without_a_value_is_imputed_as_0(strategy):
    np.testing.assert_array_equal(apply(fit([f"impute:{strategy}"], TRAIN), TRAIN)[:, 2], 0)


def test_an_indicator_has_a_column_for_each_with_missing_training_values():
    features = apply(fit(["indicator", "impute:median"], TRAIN), make_table([[MISSING, MISSING, 5.0], [1, 2, MISSING]]))
    np.testing.assert_allclose(features, [[3, 15, 5, 1, 0], [1, 2, 0, 0, 1]])


def test_clipping_is_at_the_quantiles_of_the_training_split():
    train = make_table(np.arange(101.0)[:, None])
    features = apply(fit(["clip:0.05"], train), make_table([[-9.0], [4.0], [5.0], [50.0], [95.0], [99.0]]))
    np.testing.assert_allclose(features[:, 0], [5, 5, 5, 50, 95, 95])


def test_standardising_by_the_training_split_makes_a_constant_column_0():
    train = make_table([[1.0, 4.0], [3.0, 4.0]])
    features = apply(fit(["standardize"], train), make_table([[1.0, 4.0], [5.0, 4.0]]))
    np.testing.assert_allclose(features, [[-1, 0], [3, 0]])


def test_scaling_by_the_largest_absolute_value_keeps_a_matrix_sparse():
    dense = make_table([[0.0, -4.0], [2.0, 0.0]])
    table = Table(sparse.csr_matrix(dense.numbers), dense.names, label=dense.label)
    features = apply(fit(["scale"], table), table)
    assert sparse.issparse(features)
    np.testing.assert_allclose(features.toarray(), [[0, -1], [1, 0]])
    np.testing.assert_allclose(apply(fit(["scale"], dense), dense), [[0, -1], [1, 0]])


def test_principal_components_are_those_of_the_training_split():
    """Points on the line (1, 2) around (1, 1), with a little noise across it."""
    line = np.array([1.0, 2.0]) / np.sqrt(5)
    across = np.array([-2.0, 1.0]) / np.sqrt(5)
    along, noise = np.array([-3.0, -1, 1, 3]), np.array([0.1, -0.1, -0.1, 0.1])
    train = make_table(1 + along[:, None] * line + noise[:, None] * across)
    np.testing.assert_allclose(np.abs(apply(fit(["pca:1"], train), train)[:, 0]), np.abs(along), rtol=1e-5)
    np.testing.assert_allclose(apply(fit(["denoise:1"], train), train), 1 + along[:, None] * line, rtol=1e-5, atol=1e-6)


def test_random_projection_and_singular_vectors_of_a_sparse_matrix():
    draw = np.random.default_rng(0)
    low_rank = draw.normal(size=(12, 2)) @ draw.normal(size=(2, 6))
    dense = make_table(low_rank)
    table = Table(sparse.csr_matrix(low_rank), dense.names, label=dense.label)
    reduced = apply(fit(["svd:2"], table), table)
    np.testing.assert_allclose(reduced @ reduced.T, low_rank @ low_rank.T, rtol=1e-4, atol=1e-5)  # rank 2 is all
    projected = apply(fit(["project:3"], table), table)
    assert isinstance(projected, np.ndarray)
    assert projected.shape == (12, 3)
    np.testing.assert_array_equal(projected, apply(fit(["project:3"], dense), dense))


def test_more_components_than_there_are_columns_are_refused():
    train = make_table(np.eye(4)[:, :3])
    with pytest.raises(UserError, match="number of components must be at most 3, the smaller of 4 .* 3 columns, got 5"):
        fit(["pca:5"], train)
