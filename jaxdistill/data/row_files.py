"""Named columns of the rows of files by role: one or several files, a folder of `save_to_disk`, or a part of these."""

import collections
import dataclasses
import functools
import glob
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxdistill.data import arrow_files
from jaxdistill.data.columns import Columns, locate, read_columns
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.labels import Place
from jaxdistill.data.overlaps import Choice, Files, check_disjoint
from jaxdistill.data.spilled import Scratch, Selection, join, select
from jaxdistill.data.texts import PARTS, slice_of
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of files in their order.

    Attributes:
        columns: values by column.
        locate: returns the words for a row in an error.
        files: with the number of rows of each.
    """

    columns: Columns
    locate: Callable[[int], str]
    files: Files

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def select(self, positions: np.ndarray) -> Columns:
        """Returns the values of the rows at some positions."""
        selection = Selection(positions)
        return {name: select(values, selection) for name, values in self.columns.items()}


def read_roles(settings: DatasetSettings, named: Mapping[str, str | Sequence[str]]) -> tuple[dict[str, Columns], Place]:
    """Reads columns of the rows of each role.

    A role is files, or a part of them in the order of their rows: `"a.csv"`, `"a-*.csv[:90%]"`, `"a.csv,b.csv"`, or
    `"[:90%]"` of `path`; by default `PARTS` of `path`. If `path` is a folder of `save_to_disk`, `"train[:90%]"` is a
    part of its split. With `split_seed` a part is of the rows in an order by chance.

    Args:
        settings: with the files.
        named: the columns, one or several, by the config key that names them; those without a name are left out.

    Returns:
        The columns by role, and the words for a row of a role in an error.

    Raises:
        UserError: for a missing column or file, for a row that cannot be read, with its number, and for two roles with
            a row in common.
    """
    lists = {key: [names] if isinstance(names, str) else names for key, names in named.items()}
    keys = {name: key for key, names in lists.items() for name in names if name}
    scratch = Scratch()
    read = functools.cache(lambda key, name: read_rows(key, name, settings.path, keys, scratch=scratch))
    columns: dict[str, Columns] = {}
    places: dict[str, tuple[Rows, np.ndarray]] = {}
    choices: dict[str, Choice] = {}
    for role, text in (dict(settings.splits) or _default_parts(settings)).items():
        if text:
            name, part = find_part(text)
            if not name and not settings.path:
                raise UserError(f"data.path must be a file for data.splits.{role}={text!r}, got ''. Name it")
            rows = read(f"data.splits.{role}" if name else "data.path", name)
            positions = choose_rows(role, part, len(rows), settings.split_seed)
            columns[role] = rows.select(positions)
            places[role] = rows, positions
            choices[role] = Choice(text, rows.files, positions)
    check_disjoint(choices)
    return columns, lambda role, position: places[role][0].locate(int(places[role][1][position]))


def _default_parts(settings: DatasetSettings) -> Mapping[str, str]:
    """Returns the parts of a run without `splits`: those of one file, or the splits of a folder by their names."""
    path = files.input_path("data.path", settings.path)
    names = [*arrow_files.find_splits(path)] if settings.path and arrow_files.is_saved(path) else [""]
    if names == [""]:
        return PARTS
    return name_roles(names)


def name_roles(names: Sequence[str]) -> dict[str, str]:
    """Returns the part of each role, from the names of splits; a tenth of `train` validates if nothing else does.

    Raises:
        UserError: if none of the names is `train`.
    """
    if "train" not in names:
        raise UserError(f"data.splits.train must be set, got splits {sorted(names)} without 'train'. Name one of them")
    validation = next((name for name in ("validation", "val", "valid", "dev") if name in names), "")
    parts = {"train": "train", "validation": validation}
    if not validation:
        parts = {"train": "train[:90%]", "validation": "train[90%:]"}
    return parts | ({"test": "test"} if "test" in names else {})


def find_part(text: str) -> tuple[str, str]:
    """Returns the files, or the split, that a role names, and the part of its rows."""
    match = re.fullmatch(r"(.*?)(\[[^\]\*]*\])?", text)
    return (match[1], match[2] or "[:]") if match else (text, "[:]")


def choose_rows(role: str, part: str, count: int, seed: int) -> np.ndarray:
    """Returns the positions of a part of rows: in their order, or with a seed from 0 on in an order by chance."""
    # The stream of NumPy's legacy generator is frozen across versions.
    order = np.arange(count) if seed < 0 else np.random.RandomState(seed).permutation(count)
    return order[slice_of(role, part, count)]


def read_rows(
    key: str, name: str, path: str, keys: Mapping[str, str] | None, *, scratch: Scratch | None = None
) -> Rows:
    """Reads the rows of files, or of a split of a folder of `save_to_disk`.

    Args:
        key: the config key that names them, for messages.
        name: of files, with `*` and `,` for several, or of a split of `path`; `path` itself if empty.
        path: the setting `data.path`.
        keys: the columns, each with the config key that names it; `None` for all.
        scratch: of the files that are read together; its own if it is not given.
    """
    scratch = scratch or Scratch()
    folder = files.input_path("data.path", path)
    if path and arrow_files.is_saved(folder):
        splits = arrow_files.find_splits(folder)
        if name not in splits:
            raise unknown(key, name, splits, f"a split of {folder}")
        split = splits[name]
        saved = arrow_files.open_split(split)
        return Rows(saved.read(keys, scratch), lambda row: f"row {row} of {split}", [(split, len(saved.table))])
    return _join([(file, read_columns(file, keys, scratch)) for file in find_files(key, name or path)])


def find_files(key: str, text: str) -> list[pathlib.Path]:
    """Returns the files that a config names: `a.csv`, `part-*.csv` in order of their names, or several with commas.

    Raises:
        UserError: for a file that does not exist, a pattern without a file, and for a file that is named twice.
    """
    paths: list[pathlib.Path] = []
    whole = None if "://" in text else files.local_path(key, text)  # a URL is split at its commas
    for name in [text] if whole and whole.exists() else text.split(","):
        path = whole if whole and whole.exists() else files.input_path(key, name.strip())
        matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(str(path)) else [str(path)]
        if not matches:
            raise UserError(f"{key} must match a file, got {name.strip()!r}, which matches none. Correct the pattern")
        paths += [pathlib.Path(match) for match in matches]
    absent = next((path for path in paths if not path.is_file()), None)
    if absent:
        raise UserError(f"{key} must be a file, or a part such as '[:80%]', got no file {str(absent)!r}. Correct it")
    counts = collections.Counter(path.resolve() for path in paths)
    repeated = next((path for path in paths if counts[path.resolve()] > 1), None)
    if repeated:
        raise UserError(f"{key} must name a file once, got {str(repeated)!r} twice in {text!r}. Remove one of them")
    return paths


def _join(parts: Sequence[tuple[pathlib.Path, Columns]]) -> Rows:
    """Returns the rows of several files, one after the other."""
    (first, columns), *rest = parts
    for file, others in rest:
        if {*others} != {*columns}:
            raise UserError(f"{file} must have the columns of {first}, {[*columns]}, got {[*others]}. Rename them")
    joined = {name: join([part[name] for _, part in parts]) for name in columns}
    counts = [(file, len(next(iter(part.values())))) for file, part in parts]
    ends = np.cumsum([count for _, count in counts])

    def locate_row(row: int) -> str:
        number = int(np.searchsorted(ends, row, side="right"))
        start = int(ends[number - 1]) if number else 0
        return locate(parts[number][0], row - start)

    return Rows(joined, locate_row, counts)
