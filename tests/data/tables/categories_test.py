"""Columns of strings in files."""

import numpy as np
import pytest

from jaxdistill.data import spilled
from jaxdistill.data.tables import categories

VALUES = ["red", None, "blue ", "red", "green"]


@pytest.mark.parametrize(("largest", "kind"), [(1000, categories.Categories), (0, categories.LongTexts)])
def test_rows_are_arrays_of_strings(largest, kind, monkeypatch):
    monkeypatch.setattr(categories, "LARGEST", largest)
    monkeypatch.setattr(spilled, "SPILL_FROM", 0)
    writer = spilled.ColumnWriter()
    writer.extend(VALUES)
    column = spilled.select(writer.finish(), spilled.Selection(np.array([4, 2, 1, 0])))
    held = categories.hold(column, lambda value: (value or "").strip())
    assert isinstance(held, kind)
    assert len(held) == 4
    assert held[:].tolist() == ["green", "blue", "", "red"]
    assert held[np.array([3, 0])].tolist() == ["red", "green"]
    assert held[1:3].dtype.kind == "U"
