"""Categories and texts as numbers, by hand."""

import numpy as np
import pytest
from scipy import sparse

from jaxdistill.data.tables import Table, apply, fit
from jaxdistill.errors import UserError


def make_table(numbers=None, **strings):
    columns = {name: np.array(values) for name, values in strings.items()}
    count = len(next(iter(columns.values()))) if columns else len(numbers)
    matrix = np.zeros((count, 0)) if numbers is None else np.asarray(numbers, np.float64)
    names = tuple(f"x{number}" for number in range(matrix.shape[1]))
    return Table(matrix, names, columns, label=np.zeros(count, np.int32))


def test_one_hot_has_zeros_for_an_unseen_category_and_a_column_for_missing_values():
    train = make_table([[5.0], [6.0], [7.0]], colour=["red", "blue", ""])
    new = make_table([[1.0], [2.0], [3.0]], colour=["green", "red", ""])
    features = apply(fit(["onehot"], train), new)
    np.testing.assert_array_equal(features, [[1, 0, 0, 0], [2, 0, 0, 1], [3, 1, 0, 0]])  # "", blue, red


def test_named_columns_alone_are_encoded():
    train = make_table(colour=["red", "blue"], size=["s", "l"])
    features = apply(fit(["onehot:size", "hash:4"], train), train)
    assert features.shape == (2, 6)
    np.testing.assert_array_equal(features[:, :2], [[0, 1], [1, 0]])


def test_hashing_puts_a_signed_1_for_each_column_and_needs_no_fit():
    train, new = make_table(colour=["red"], size=["s"]), make_table(colour=["green", "red"], size=["s", "s"])
    features = apply(fit(["hash:1024"], train), new)
    assert features.shape == (2, 1024)
    np.testing.assert_array_equal(np.abs(features).sum(1), 2)
    assert (features[0] != features[1]).any()
    np.testing.assert_array_equal(features[1], apply(fit(["hash:1024"], new), train)[0])


def test_tfidf_of_the_training_split_is_sparse_and_leaves_out_unseen_words():
    train = make_table(text=["ball goal ball", "ball bank"])
    new = make_table(text=["bank vote", "vote", "ball ball ball bank"])
    features = apply(fit(["tfidf:10"], train), new)
    assert sparse.issparse(features)
    assert features.shape == (3, 3)
    dense = features.toarray()
    np.testing.assert_allclose(dense[:2], [[0, 1, 0], [0, 0, 0]])
    idf = np.log(3 / np.array([3, 2])) + 1
    expected = np.array([1 + np.log(3), 1]) * idf
    np.testing.assert_allclose(dense[2], [*expected / np.linalg.norm(expected), 0], rtol=1e-6)
    assert apply(fit(["tfidf:2"], train), new).shape == (3, 2)


def test_texts_beside_numbers_are_one_sparse_matrix():
    train = make_table([[2.0], [0.0]], text=["ball", "bank"])
    features = apply(fit(["tfidf:10"], train), train)
    np.testing.assert_allclose(features.toarray(), [[2, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("table", "transform", "message"),
    [
        (make_table([[1.0]]), "onehot", r"must encode columns of strings, got the numbers \['x0'\] alone"),
        (make_table(colour=["red"]), "hash:4,color", "must be a column of strings, got 'color'. Did you mean 'colour'"),
        (make_table(text=["", "a"]), "tfidf:5", "must have texts with words in \\['text'\\], got none"),
    ],
)
def test_columns_that_cannot_be_encoded_are_refused(table, transform, message):
    with pytest.raises(UserError, match=message):
        fit([transform], table)
