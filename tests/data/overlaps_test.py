"""Splits with an example in common."""

import pathlib

import numpy as np
import pytest

from jaxdistill.data.overlaps import Choice, check_disjoint, check_slices
from jaxdistill.errors import UserError

A, B = pathlib.Path("a.csv"), pathlib.Path("b.csv")


def test_rows_of_files_in_several_orders():
    """Rows 1 and 2 of `a.csv` are rows 4 and 5 of `b.csv,a.csv`."""
    train = Choice("a.csv[:]", [(A, 3)], np.array([2, 0, 1]))
    first = Choice("b.csv,a.csv[:60%]", [(B, 3), (A, 3)], np.array([2, 0, 1]))
    check_disjoint({"train": train, "test": first})
    second = Choice("b.csv,./a.csv[50%:]", [(B, 3), (pathlib.Path.cwd() / A, 3)], np.array([5, 2, 4]))
    with pytest.raises(UserError, match=r"splits.train='a.csv\[:\]' and data.splits.test='b.*got 2 of .*a.csv. Take"):
        check_disjoint({"train": train, "test": second})
    with pytest.raises(UserError, match=r"splits.validation='b.* and data.splits.test='b.*got 1 of .*b.csv. Take"):
        check_disjoint({"validation": first, "test": second})


def test_slices():
    texts = {"train": "[:50%]", "validation": "[50%:]"}
    check_slices(texts, {"train": slice(0, 5), "validation": slice(5, 10)})
    with pytest.raises(UserError, match="got 1 bytes"):
        check_slices(texts, {"train": slice(0, 6), "validation": slice(5, 10)})
