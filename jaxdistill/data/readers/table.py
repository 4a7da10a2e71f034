"""Tables of CSV, TSV, JSONL or Parquet files, with named columns."""

import pathlib

from jaxdistill.data.columns import FIRST_ROWS, locate, read_columns
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.tables import make_dataset
from jaxdistill.data.tables.parse import CATEGORY, Columns, make_tables
from jaxdistill.data.tables.table import split_positions
from jaxdistill.data.texts import slice_of
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

ROLES = ("train", "validation", "test")


def read(settings: DatasetSettings) -> Dataset:
    """Reads a file, or a folder with `train.csv` and others.

    The rows of a single file are split by chance, 60 % to train on, 20 % to validate on and 20 % to test on, or in
    their order by `splits` such as `"[:90%]"`. Labels are those of the column `label`, targets of `target`; features
    are the columns `columns`, by default all others, after `transforms`.

    Raises:
        UserError: for a missing or damaged file, and columns that do not fit.
    """
    path = files.local_path("data.path", settings.path)
    if not settings.path or not path.exists():
        raise UserError(f"data.path must be a table, or a folder with train.csv, got {settings.path!r}. Correct it")
    parts = _read_folder(path, settings) if path.is_dir() else _read_file(path, settings)
    tables, class_names = make_tables(parts, settings)
    return make_dataset(tables, settings, class_names)


def _keys(settings: DatasetSettings) -> dict[str, str] | None:
    """Returns the columns to read, each with the key that names it; `None` for all."""
    if not settings.columns:
        return None
    keys = {name.removesuffix(CATEGORY): "data.columns" for name in settings.columns}
    return keys | {settings.label or settings.target: "data.label" if settings.label else "data.target"}


def _read_folder(path: pathlib.Path, settings: DatasetSettings) -> dict[str, Columns]:
    settings.check_no_splits()
    parts = {}
    for role in ROLES:
        matches = sorted(file for file in path.glob(f"{role}.*") if file.suffix.lower() in FIRST_ROWS)
        if len(matches) > 1:
            raise UserError(f"{path} must have one file for {role}, got {[file.name for file in matches]}. Remove one")
        for file in matches:
            parts[role] = _columns(file, settings)
    if "train" not in parts:
        present = sorted(file.name for file in path.iterdir())[:8]
        raise UserError(f"{path} must have a file train.csv, .tsv, .jsonl or .parquet, got {present}. Add it")
    return parts


def _columns(file: pathlib.Path, settings: DatasetSettings) -> Columns:
    return Columns(read_columns(file, _keys(settings)), lambda position: locate(file, position))


def _read_file(path: pathlib.Path, settings: DatasetSettings) -> dict[str, Columns]:
    columns = _columns(path, settings)
    count = len(next(iter(columns.values.values())))
    named = {role: part for role, part in settings.splits if part}
    parts = {role: range(count)[slice_of(role, part, count)] for role, part in named.items()}
    positions = parts or split_positions(count)
    if "train" not in positions:
        raise UserError(f"data.splits must have train, got {named}. Add train='[:80%]'")
    for role, rows in positions.items():
        if not len(rows):
            raise UserError(f"the {role} split of {path} must have rows, got none of {count}. Set data.splits")

    def select(rows: list[int]) -> Columns:
        values = {name: [column[row] for row in rows] for name, column in columns.values.items()}
        return Columns(values, lambda position: columns.locate(rows[position]))

    return {role: select(list(map(int, rows))) for role, rows in positions.items()}
