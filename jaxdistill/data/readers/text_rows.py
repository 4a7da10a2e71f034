"""Texts in the rows of CSV, TSV, JSONL or Parquet files, with labels or without."""

import functools
import pathlib
import re

from jaxdistill.data.columns import locate, read_columns
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.labels import number_classes
from jaxdistill.data.texts import PARTS, slice_of
from jaxdistill.data.tokenized_texts import TextRows, check_settings, check_texts, tokenize
from jaxdistill.errors import UserError
from jaxdistill.runtime import files


def read(settings: DatasetSettings) -> Dataset:
    """Returns the tokens of the column `text`, and of `pair`, with classes from `label` if they are named.

    Each role is a file, or a part of one in the order of its rows: `"a.csv"`, `"a.csv[:90%]"`, or `"[:90%]"` of `path`;
    by default `PARTS` of `path`. Classes are the different labels of the training rows, sorted. A text longer than
    `length` tokens is cut, and an empty one is its special tokens.

    Raises:
        UserError: for a missing column, file or tokenizer, and for a row that cannot be read, with its number.
    """
    check_settings(settings)
    if not settings.text:
        raise UserError("data.text must be the name of a column, got ''. Name that of the texts")
    parts = {role: _part(role, part, settings) for role, part in (dict(settings.splits) or PARTS).items() if part}
    named = {"data.text": settings.text, "data.pair": settings.pair, "data.label": settings.label}
    read_file = functools.cache(lambda path: read_columns(path, {name: key for key, name in named.items() if name}))
    columns, starts = {}, {}
    for role, (path, part) in parts.items():
        whole = read_file(path)
        rows = slice_of(role, part, len(whole[settings.text]))
        columns[role], starts[role] = {name: values[rows] for name, values in whole.items()}, rows.start

    def place(role: str, position: int) -> str:
        return locate(parts[role][0], starts[role] + position)

    for role, values in columns.items():
        for name in filter(None, (settings.text, settings.pair)):
            check_texts(values[name], role, place)
    class_names, labels = (), {}
    if settings.label:
        class_names, labels = number_classes({role: values[settings.label] for role, values in columns.items()}, place)
    rows_by_role = {
        role: TextRows(values[settings.text], values.get(settings.pair), labels.get(role))
        for role, values in columns.items()
    }
    return tokenize(rows_by_role, class_names, settings, place)


def _part(role: str, text: str, settings: DatasetSettings) -> tuple[pathlib.Path, str]:
    """Returns the file of a role, and the part of its rows."""
    match = re.fullmatch(r"(.*?)(\[[^\]]*\])?", text)
    name, part = (match[1], match[2] or "[:]") if match else (text, "[:]")
    key = f"data.splits.{role}" if name else "data.path"
    if not name and not settings.path:
        raise UserError(f"data.path must be a file for data.splits.{role}={text!r}, got ''. Name it")
    return files.local_path(key, name or settings.path), part
