"""Parts of mapped tables: transforms are fitted and applied as on the whole, to the bit."""

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from jaxdistill.data import spilled
from jaxdistill.data.tables import numbers
from jaxdistill.data.tables import parts as parts_of_tables
from jaxdistill.data.tables import table as tables
from jaxdistill.data.tables.parts import MatrixWriter, Parts
from jaxdistill.data.tables.table import Table


def make_table(count, width, missing, monkeypatch=None):
    """Returns a table, in a file with `monkeypatch`."""
    random = np.random.default_rng(width)
    values = random.normal(3, 2, (count, width)) * 10.0 ** random.integers(-3, 4, width)
    values[:, 0] = 0.1  # constant but for rounding
    if missing:
        values[random.random((count, width)) < 0.1] = np.nan
        values[:, width // 2] = np.nan
    if monkeypatch:
        monkeypatch.setattr(spilled, "SPILL_FROM", 0)
        monkeypatch.setattr(tables, "ROWS", 64)
        monkeypatch.setattr(parts_of_tables, "COLUMN_BYTES", 2 * 8 * count)
        writer = spilled.ArrayWriter()
        for column in values.T:
            writer.append(np.ascontiguousarray(column))
        values = writer.finish().reshape(width, count).T
    return Table(values, tuple(f"x{number}" for number in range(width)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of columns without a value
@pytest.mark.parametrize(("count", "width", "missing"), [(999, 1, False), (999, 5, False), (999, 5, True)])
def test_statistics_are_those_of_scikit_learn_to_the_bit(count, width, missing, monkeypatch):
    whole = make_table(count, width, missing)
    scaler = StandardScaler().fit(whole.numbers)
    imputed = {
        name: SimpleImputer(strategy=name, keep_empty_features=True).fit(whole.numbers).statistics_
        for name in ("mean", "median")
    }
    largest = np.nan_to_num(MaxAbsScaler().fit(whole.numbers).scale_, nan=1.0)
    clip = numbers.fit_clip(Parts(whole), 0.05)
    for table in (whole, make_table(count, width, missing, monkeypatch)):
        parts = Parts(table)
        fitted = numbers.fit_standardize(parts)
        np.testing.assert_array_equal(fitted["mean"], np.nan_to_num(scaler.mean_))
        np.testing.assert_array_equal(fitted["scale"], np.nan_to_num(scaler.scale_, nan=1.0))
        for strategy, values in imputed.items():
            np.testing.assert_array_equal(numbers.fit_impute(parts, strategy)["value"], values.astype(np.float64))
        np.testing.assert_array_equal(numbers.fit_scale(parts)["scale"], largest)
        for name, values in numbers.fit_clip(parts, 0.05).items():
            np.testing.assert_array_equal(values, clip[name])
    assert table.is_mapped


def test_steps_change_each_part(monkeypatch):
    table = make_table(200, 3, False, monkeypatch)
    parts = Parts(table).then(lambda part: part.with_numbers(2 * part.numbers, part.names))
    assert [len(part) for part in parts] == [64, 64, 64, 8]
    np.testing.assert_array_equal(parts.gather(slice(1, 3)), 2 * np.asarray(table.numbers)[:, 1:])
    assert [block.shape for block in parts.blocks()] == [(200, 2), (200, 1)]
    assert parts.first.numbers.flags.c_contiguous


def test_rows_below_each_other(monkeypatch):
    from scipy import sparse

    monkeypatch.setattr(spilled, "SPILL_FROM", 0)
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    for kind in (np.asarray, sparse.csr_matrix):
        writer = MatrixWriter()
        for _ in range(2):
            writer.append(kind(rows))
        matrix = writer.finish()
        assert spilled.is_mapped(matrix) == (kind is np.asarray)
        np.testing.assert_array_equal(matrix if kind is np.asarray else matrix.toarray(), np.concatenate([rows, rows]))
