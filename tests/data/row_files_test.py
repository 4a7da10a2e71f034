"""Rows of files by role."""

import pytest

from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.row_files import read_roles
from jaxdistill.errors import UserError


def test_a_role_is_a_file_or_a_part(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{row},b\n" for row in range(10)))
    settings = DatasetSettings("rows", path=str(path), splits=(("train", "[:80%]"), ("test", f"{path}[80%:]")))
    columns, place = read_roles(settings, {"data.text": "x", "data.pair": ""})
    assert columns == {"train": {"x": [*"01234567"]}, "test": {"x": ["8", "9"]}}
    assert place("test", 1) == f"row 11 of {path}"
    with pytest.raises(UserError, match="data.path must be a file for data.splits.train"):
        read_roles(DatasetSettings("rows", splits=(("train", "[:]"),)), {"data.text": "x"})
