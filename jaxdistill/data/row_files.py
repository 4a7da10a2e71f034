"""Named columns of the rows of files by role: a file or a part of one for each."""

import functools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from jaxdistill.data.columns import locate, read_columns
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.labels import Place
from jaxdistill.data.texts import PARTS, slice_of
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

Columns = dict[str, list[Any]]
"""Values by column, of equal lengths."""


def read_roles(settings: DatasetSettings, named: Mapping[str, str]) -> tuple[dict[str, Columns], Place]:
    """Reads columns of the rows of each role.

    A role is a file, or a part of one in the order of its rows: `"a.csv"`, `"a.csv[:90%]"`, or `"[:90%]"` of `path`;
    by default `PARTS` of `path`.

    Args:
        settings: with the files.
        named: the columns by the config key that names each; those without a name are left out.

    Returns:
        The columns by role, and the words for a row of a role in an error.

    Raises:
        UserError: for a missing column or file, and for a row that cannot be read, with its number.
    """
    parts = {role: _find_part(role, part, settings) for role, part in (dict(settings.splits) or PARTS).items() if part}
    keys = {name: key for key, name in named.items() if name}
    read_file = functools.cache(lambda path: read_columns(path, keys))
    columns: dict[str, Columns] = {}
    starts = {}
    for role, (path, part) in parts.items():
        whole = read_file(path)
        rows = slice_of(role, part, len(next(iter(whole.values()))))
        columns[role], starts[role] = {name: values[rows] for name, values in whole.items()}, rows.start

    def place(role: str, position: int) -> str:
        return locate(parts[role][0], starts[role] + position)

    return columns, place


def _find_part(role: str, text: str, settings: DatasetSettings) -> tuple[pathlib.Path, str]:
    """Returns the file of a role, and the part of its rows."""
    match = re.fullmatch(r"(.*?)(\[[^\]]*\])?", text)
    name, part = (match[1], match[2] or "[:]") if match else (text, "[:]")
    key = f"data.splits.{role}" if name else "data.path"
    if not name and not settings.path:
        raise UserError(f"data.path must be a file for data.splits.{role}={text!r}, got ''. Name it")
    return files.local_path(key, name or settings.path), part
