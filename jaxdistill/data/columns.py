"""Named columns of a CSV, TSV, JSONL or Parquet file."""

import csv
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxdistill.data.spilled import ColumnWriter, Scratch
from jaxdistill.errors import UserError, unknown

FIRST_ROWS = {".csv": 2, ".tsv": 2, ".jsonl": 1, ".parquet": 1}
"""The number of the first example by suffix: the header of a CSV is row 1, as in a spreadsheet."""


Columns = dict[str, Sequence[Any]]
"""Values by column, of equal lengths."""


def read_columns(path: pathlib.Path, keys: Mapping[str, str] | None = None, scratch: Scratch | None = None) -> Columns:
    """Reads columns of a file.

    Values of a CSV are strings, `""` if empty; a TSV has no quotes. Values of a JSONL or Parquet file have their types,
    and are `None` if they are null. Every line is a row: empty ones are allowed at the end alone.

    Args:
        path: of a file with a suffix of `FIRST_ROWS`, in UTF-8 unless it is a Parquet file.
        keys: the columns to read, each with the config key that names it, for messages; `None` for all, in the order
            of the file.
        scratch: of the files that are read together; its own if it is not given.

    Returns:
        The values by column, of equal lengths: lists, or mapped values if they are large.

    Raises:
        UserError: for a missing or damaged file, another encoding, a ragged row or a missing column, with its row.
    """
    if not path.is_file():
        raise UserError(f"data.path must be a file, got no file {str(path)!r}. Correct the path")
    columns = _reader(path)(path, keys, scratch or Scratch())
    if not columns or not len(next(iter(columns.values()))):
        raise UserError(f"{path} must have at least one row below its names, got none. Take another file")
    return columns


def locate(path: pathlib.Path, position: int) -> str:
    """Returns the words for a row in an error: `row 7 of reviews.csv`, counted from 1, the header of a CSV too.

    Args:
        path: of the file.
        position: of the value in its column, from 0.
    """
    return f"row {position + FIRST_ROWS[path.suffix.lower()]} of {path}"


def check_columns(path: pathlib.Path, keys: Mapping[str, str], existing: Sequence[str]) -> None:
    """Raises `UserError` for the first of `keys` that is no column of a file, with the nearest and the list."""
    for name, key in keys.items():
        if name not in existing:
            raise unknown(f"{key}, the name of a column,", name, existing, f"one of {path}")


def _check_different(path: pathlib.Path, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{path} must have different names of columns, got {repeated} twice. Rename a column")


def _finish(columns: Mapping[str, ColumnWriter]) -> Columns:
    return {name: column.finish() for name, column in columns.items()}


def _reader(path: pathlib.Path) -> Callable[[pathlib.Path, Mapping[str, str] | None, Scratch], Columns]:
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise UserError(f"data.path must be a file with a suffix of {[*readers]}, got {str(path)!r}. Rename it")
    return readers[suffix]


def _iterate_lines(path: pathlib.Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file with their ends, without empty ones at the end, as the file is read.

    Only line feeds end a line: a text may hold the other separators of Unicode.
    """
    pending: list[str] = []  # the last line and the empty ones after it, which may be the end
    has_begun = False
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UserError(f"{path} must be UTF-8, got UTF-16. Convert it: iconv -f UTF-16 -t UTF-8")
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path} must be UTF-8, got the byte {error.object[error.start]:#04x} in line {number}. Convert it,"
                    " for example: iconv -f WINDOWS-1252 -t UTF-8"
                ) from error
            has_begun = has_begun or bool(line.strip())
            if has_begun and line.strip("\r\n"):
                yield from pending
                pending = []
            pending.append(line)
    while pending and not pending[-1].strip("\r\n"):
        pending.pop()
    if pending and has_begun:
        yield from pending[:-1]
        yield pending[-1].rstrip("\r\n") + "\n"


def _read_csv(path: pathlib.Path, keys: Mapping[str, str] | None, scratch: Scratch) -> Columns:
    rows = _iterate_csv(path)
    header = next(rows, [])
    if not header:
        raise UserError(f"{path} must have the names of its columns in row 1, got no row. Take another file")
    _check_different(path, header)
    check_columns(path, keys or {}, header)
    wanted = [header.index(name) for name in (keys or header)]
    columns = {name: ColumnWriter(scratch) for name in keys or header}
    for position, row in enumerate(rows):
        if len(row) != len(header):
            raise UserError(
                f"{locate(path, position)} must have {len(header)} columns, as the first row has, got {len(row)}:"
                f" {row[:4]}. Quote values with separators, and add missing ones"
            )
        for column, index in zip(columns.values(), wanted, strict=True):
            column.append(row[index])
    return _finish(columns)


def _iterate_csv(path: pathlib.Path) -> Iterator[list[str]]:
    is_tsv = path.suffix.lower() == ".tsv"
    limit = csv.field_size_limit(sys.maxsize)  # by default a text has at most 131,072 characters
    try:
        kinds: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if is_tsv else {"strict": True}
        reader = csv.reader(_iterate_lines(path), **kinds)
        number = 0
        try:
            for number, row in enumerate(reader, 1):  # noqa: B007, the number of the last row that could be read
                yield row
        except csv.Error as error:
            raise UserError(
                f"row {number + 1} of {path} must be CSV, got {error} (line {reader.line_num}). Double quotes in a"
                " quoted value, and close it"
            ) from error
    finally:
        csv.field_size_limit(limit)


def _read_jsonl(path: pathlib.Path, keys: Mapping[str, str] | None, scratch: Scratch) -> Columns:
    columns: dict[str, ColumnWriter] = {}
    for position, line in enumerate(_iterate_lines(path)):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = "an empty line" if not line.strip() else f"{line.strip()[:60]!r} ({error})"
            raise UserError(f"{locate(path, position)} must be a JSON object, got {reason}. Correct it") from error
        if not isinstance(row, dict):
            raise UserError(f"{locate(path, position)} must be a JSON object, got {line.strip()[:60]!r}. Correct it")
        if not position:
            check_columns(path, keys or {}, [*row])
            columns = {name: ColumnWriter(scratch) for name in keys or row}
        missing = [name for name in columns if name not in row]
        if missing:
            raise UserError(f"{locate(path, position)} must have {missing}, got {[*row]}. Add them, or null")
        for name, column in columns.items():
            column.append(row[name])
    return _finish(columns)


def _read_parquet(path: pathlib.Path, keys: Mapping[str, str] | None, scratch: Scratch) -> Columns:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{path} must be read by pyarrow, got {error}. pip install 'jaxdistill[parquet]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_columns(path, keys or {}, names)
            _check_different(path, names)
            columns = {name: ColumnWriter(scratch) for name in keys or names}
            for part in file.iter_batches(columns=[*columns]):
                for name, column in columns.items():
                    column.extend(part.column(name).to_pylist())
            return _finish(columns)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} must have strings of UTF-8, got the byte {error.object[error.start]:#04x} in"
            f" {error.object[:60]!r}. Write it again"
        ) from error
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} must be a Parquet file, got one that is damaged ({reason}). Write it again") from error
