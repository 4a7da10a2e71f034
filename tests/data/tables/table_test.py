"""Raw tables: rows and columns."""

import numpy as np
import pytest
from scipy import sparse

from jaxdistill.data.tables import table as tables
from jaxdistill.data.tables.table import Table, measure
from jaxdistill.errors import UserError


def test_splits_are_disjoint_together_all_rows_and_the_same_each_time():
    parts = tables.split_positions(101)
    assert [len(parts[role]) for role in ("train", "validation", "test")] == [61, 20, 20]
    np.testing.assert_array_equal(np.sort(np.concatenate([*parts.values()])), np.arange(101))
    assert parts["train"][:5].tolist() == [26, 86, 2, 55, 75]


def test_selected_rows_keep_their_values():
    table = Table(np.arange(6.0).reshape(3, 2), ("a", "b"), {"c": np.array(["x", "y", "z"])}, target=np.arange(3.0))
    part = table.select(np.array([2, 0]))
    assert part.numbers.tolist() == [[4, 5], [0, 1]]
    assert part.strings["c"].tolist() == ["z", "x"]
    assert part.target.tolist() == [2, 0]
    assert part.label is None
    assert part.columns == ("a", "b", "c")


def test_columns_are_sparse_if_either_side_is():
    left, right = np.array([[1.0], [2.0]]), sparse.csr_matrix([[0.0, 3.0], [0.0, 0.0]])
    assert isinstance(tables.join(left, left), np.ndarray)
    joined = tables.join(left, right)
    assert tables.is_sparse(joined)
    np.testing.assert_array_equal(joined.toarray(), [[1, 0, 3], [2, 0, 0]])


def test_targets_so_large_that_predictions_overflow_are_refused():
    assert measure(np.array([1e36, -1e36])) == (0.0, 1e36)
    assert measure(np.array([1e38, 1e38])) == (1e38, 1.0)
    with pytest.raises(
        UserError, match=r"30 standard deviations are numbers of float32, got a mean of 0 and .* 1e\+38"
    ):
        measure(np.array([1e38, -1e38]))
