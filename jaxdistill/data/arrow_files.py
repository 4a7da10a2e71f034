"""Folders that `save_to_disk` of Hugging Face's `datasets` writes: Arrow files, mapped into memory.

They are never loaded whole. A folder has `state.json`, which lists the files, `dataset_info.json` with the features,
and `*.arrow` in the stream format. A folder of several splits has `dataset_dict.json` and a folder for each. pyarrow
alone reads them.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdistill.data.columns import Columns, check_columns
from jaxdistill.data.spilled import MappedValues, Scratch
from jaxdistill.errors import UserError

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"

VALUE_BYTES = 56
"""Bytes that a value takes in memory beside its own, as `blocks.estimate` counts them."""


def is_saved(path: pathlib.Path) -> bool:
    """Whether a path is a folder of `save_to_disk`."""
    return (path / STATE).is_file() or (path / SPLITS).is_file()


def find_splits(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the folder of each split by name; that of a single set by the name ""."""
    if (path / STATE).is_file():
        return {"": path}
    names = _read_json(path / SPLITS).get("splits", [])
    return {str(name): path / str(name) for name in names}


@dataclasses.dataclass(frozen=True)
class SavedSplit:
    """A split on disk.

    Attributes:
        folder: of the files.
        table: a mapped pyarrow table.
        features: the entries of `dataset_info.json` by column.
    """

    folder: pathlib.Path
    table: Any
    features: Mapping[str, Any]

    def column(self, name: str, key: str) -> Any:
        """Returns a mapped column; `key` is the config key that names it, for messages."""
        check_columns(self.folder, {name: key}, self.table.column_names)
        return self.table.column(name)

    def class_names(self, name: str) -> tuple[str, ...]:
        """Returns the names of the classes of a column, or of its lists; none if it has no `ClassLabel`."""
        feature = self.features.get(name)
        if isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
            feature = feature.get("feature")
        is_class = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        return tuple(feature.get("names") or ()) if is_class else ()

    def read(self, keys: Mapping[str, str] | None = None, scratch: Scratch | None = None) -> Columns:
        """Returns the values of columns; a class is its name, and large columns stay mapped.

        Args:
            keys: the columns, each with the config key that names it; `None` for all.
            scratch: of the columns that are read together; its own if it is not given.
        """
        keys = dict.fromkeys(self.table.column_names, "data.columns") if keys is None else keys
        scratch = scratch or Scratch()
        return {name: self._read_column(name, key, scratch) for name, key in keys.items()}

    def _read_column(self, name: str, key: str, scratch: Scratch) -> Sequence[Any]:
        column, names = self.column(name, key), self.class_names(name)
        for positions, values in MappedValues(column).iterate() if names else ():
            large = next((row for row, value in enumerate(values) if _largest(value) >= len(names)), None)
            if large is not None:
                raise UserError(
                    f"row {positions[large]} of {self.folder} must have one of {len(names)} classes in {name!r}, got"
                    f" {values[large]}. Correct the row"
                )
        mapped = MappedValues(column, functools.partial(_name, names=names) if names else None)
        is_held = scratch.hold(column.nbytes + VALUE_BYTES * len(column))
        return [value for _, values in mapped.iterate() for value in values] if is_held else mapped


def _largest(value: Any) -> int:
    """Returns the largest index of a class or of a list of classes; -1 for none."""
    return max(map(_largest, value), default=-1) if isinstance(value, list) else -1 if value is None else int(value)


def _name(value: Any, names: Sequence[str]) -> Any:
    """Returns the name of a class, or those of a list; `None` for a missing one."""
    if isinstance(value, list):
        return [_name(item, names) for item in value]
    return None if value is None or value < 0 else names[value]


def open_split(folder: pathlib.Path) -> SavedSplit:
    """Opens a split.

    Raises:
        UserError: without pyarrow, and for a folder that is damaged or of another form.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise UserError(f"{folder} must be read by pyarrow, got {error}. pip install 'jaxdistill[parquet]'") from error
    state = _read_json(folder / STATE)
    if state.get("_indices_data_files"):
        raise UserError(
            f"{folder} must have its rows in their order, got a selection of them (_indices_data_files). Call"
            " flatten_indices() before save_to_disk"
        )
    tables = []
    for entry in state.get("_data_files") or []:
        path = folder / str(entry["filename"])
        try:
            tables.append(pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all())
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} must be an Arrow file, got {reason}. Write the folder again") from error
    if not tables or not sum(len(table) for table in tables):
        raise UserError(f"{folder} must have at least one row, got none. Take another folder")
    features = _read_json(folder / INFO).get("features") if (folder / INFO).is_file() else {}
    return SavedSplit(folder, pyarrow.concat_tables(tables), features or {})


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} must be a file of save_to_disk, got {error}. Write the folder again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a file of save_to_disk, got {type(content).__name__}. Write the folder again")
    return content
