"""Tables of CSV, TSV, JSONL or Parquet files, with named columns."""

import dataclasses
import functools
import pathlib

import numpy as np

from jaxdistill.data import arrow_files
from jaxdistill.data.columns import FIRST_ROWS, locate, read_columns
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.overlaps import Choice, check_disjoint
from jaxdistill.data.routes import read_routes
from jaxdistill.data.row_files import Rows, choose_rows, find_part, name_roles, read_rows
from jaxdistill.data.spilled import Scratch
from jaxdistill.data.supervision import SEVERAL, name_columns
from jaxdistill.data.tables import make_dataset
from jaxdistill.data.tables.parse import CATEGORY, make_tables
from jaxdistill.data.tables.table import split_positions
from jaxdistill.data.tables.values import Columns
from jaxdistill.data.texts import slice_of
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

ROLES = ("train", "validation", "test")


def read(settings: DatasetSettings) -> Dataset:
    """Reads files, a folder with `train.csv` and others, or a folder of `datasets.Dataset.save_to_disk`.

    Rows are split by chance, 60 % to train on, 20 % to validate on and 20 % to test on, or by `splits`: files, or parts
    such as `"[:90%]"` in order of the rows (`row_files.read_roles`). Labels are those of the column `label`, targets of
    `target`, or several of `labels` or `targets` (`data.supervision`); features are the columns `columns`, by default
    all others, after `transforms`. The column `route` chooses a network; it is a feature besides unless `columns` leave
    it out.

    Raises:
        UserError: for a missing or damaged file, and columns that do not fit.
    """
    path = files.input_path("data.path", settings.path)
    names_files = any(part and not part.startswith("[") for _, part in settings.splits)
    is_pattern = any(mark in settings.path for mark in "*?,")
    if not names_files and not is_pattern and not (settings.path and path.exists()):
        raise UserError(f"data.path must be a table, or a folder with train.csv, got {settings.path!r}. Correct it")
    of_folder = settings.path and path.is_dir() and not arrow_files.is_saved(path)
    parts = _read_folder(path, settings) if of_folder else _read_files(settings)
    tables, class_names = make_tables(parts, settings)
    dataset = dataclasses.replace(make_dataset(tables, settings, class_names), keys=("splits.seed", *SEVERAL))
    if settings.route not in ("", *parts["train"].values):
        raise unknown("data.route", settings.route, parts["train"].values, "a column")
    columns = {role: part.values for role, part in parts.items()}
    return read_routes(dataset, settings, columns, lambda role, row: parts[role].locate(row))


def _keys(settings: DatasetSettings) -> dict[str, str] | None:
    """Returns the columns to read, each with the key that names it; `None` for all."""
    if not settings.columns:
        return None
    keys = {name.removesuffix(CATEGORY): "data.columns" for name in settings.columns}
    keys |= {settings.route: "data.route"} if settings.route else {}
    return keys | name_columns(settings)


def _read_folder(path: pathlib.Path, settings: DatasetSettings) -> dict[str, Columns]:
    settings.check_no_splits()
    parts, scratch = {}, Scratch()
    for role in ROLES:
        matches = sorted(file for file in path.glob(f"{role}.*") if file.suffix.lower() in FIRST_ROWS)
        if len(matches) > 1:
            raise UserError(f"{path} must have one file for {role}, got {[file.name for file in matches]}. Remove one")
        for file in matches:
            parts[role] = _columns(file, settings, scratch)
    if "train" not in parts:
        present = sorted(file.name for file in path.iterdir())[:8]
        raise UserError(f"{path} must have a file train.csv, .tsv, .jsonl or .parquet, got {present}. Add it")
    return parts


def _columns(file: pathlib.Path, settings: DatasetSettings, scratch: Scratch) -> Columns:
    return Columns(read_columns(file, _keys(settings), scratch), lambda position: locate(file, position))


def _read_files(settings: DatasetSettings) -> dict[str, Columns]:
    keys, named = _keys(settings), {role: part for role, part in settings.splits if part}
    scratch = Scratch()
    read = functools.cache(lambda key, name: read_rows(key, name, settings.path, keys, scratch=scratch))
    splits = _find_saved(settings)
    if not named and splits:
        named = name_roles(splits)
    if not named:
        rows = read("data.path", "")
        positions = split_positions(len(rows), max(settings.split_seed, 0))
        return {role: _select(rows, chosen) for role, chosen in positions.items()}
    if "train" not in named:
        raise UserError(f"data.splits must have train, got {named}. Add train='[:80%]'")
    parts, choices = {}, {}
    for role, text in named.items():
        name, part = find_part(text)
        if name and not splits and pathlib.Path(name).suffix.lower() not in FIRST_ROWS:
            slice_of(role, text, 1)  # raises, with the forms of a part
        rows = read(f"data.splits.{role}" if name else "data.path", name)
        positions = choose_rows(role, part, len(rows), settings.split_seed)
        if not len(positions):
            place = name or settings.path
            raise UserError(f"the {role} split of {place} must have rows, got none of {len(rows)}. Set data.splits")
        parts[role] = _select(rows, positions)
        choices[role] = Choice(text, rows.files, positions)
    check_disjoint(choices)
    return parts


def _find_saved(settings: DatasetSettings) -> list[str]:
    """Returns the splits of a folder of `save_to_disk` with several; none of anything else."""
    path = files.input_path("data.path", settings.path)
    names = [*arrow_files.find_splits(path)] if arrow_files.is_saved(path) else [""]
    return [] if names == [""] else names


def _select(rows: Rows, positions: np.ndarray) -> Columns:
    return Columns(rows.select(positions), lambda position: rows.locate(int(positions[position])))
