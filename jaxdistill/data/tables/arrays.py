"""Tables from arrays: those of an `.npz`, and the sparse matrices that `scipy.sparse.save_npz` writes into a folder."""

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdistill.data.array_supervision import NAMES, check_labels, check_only, check_targets, name_columns
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.spilled import is_mapped
from jaxdistill.data.supervision import KEYS
from jaxdistill.data.tables.splits import make_dataset
from jaxdistill.data.tables.table import Table, is_sparse
from jaxdistill.errors import UserError

FIELDS = ("features", "label", "labels", "target")
"""Arrays of a split, `ROLE_FIELD`: features `[n, columns]`, and `label` `[n]` or one of `data.array_supervision`."""

EXTRA = ("class_names", "columns", NAMES)
"""Further arrays: names of the classes, of the columns, and of several targets."""

ANSWERS = FIELDS[1:]


def read_folder(folder: pathlib.Path) -> dict[str, Any]:
    """Reads `ROLE_features.npz` of scipy, `ROLE_label.npy` or `ROLE_target.npy`, and the arrays `EXTRA` as `.npy`.

    Raises:
        UserError: for a missing or damaged file.
    """
    arrays: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".npz", ".npy"):
            arrays[path.stem] = _read_array(path)
    if "train_features" not in arrays:
        raise UserError(
            f"{folder} must have train_features.npz, as scipy.sparse.save_npz writes it, got"
            f" {sorted(path.name for path in folder.iterdir())[:8]}. Add it"
        )
    return arrays


def _read_array(path: pathlib.Path) -> Any:
    from scipy import sparse

    try:
        return sparse.load_npz(path).tocsr() if path.suffix == ".npz" else np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        kind = "a matrix of scipy.sparse.save_npz" if path.suffix == ".npz" else "an array of numpy.save"
        raise UserError(f"{path} must be {kind}, got one that cannot be read ({error}). Save it again") from error


def make_arrays_dataset(path: str, arrays: Mapping[str, Any], settings: DatasetSettings) -> Dataset:
    """Returns the dataset of arrays `ROLE_FIELD`, the fields of which are `FIELDS`.

    Raises:
        UserError: for arrays that do not fit each other.
    """
    for key in ("columns", *KEYS):
        if value := getattr(settings, key):
            raise UserError(
                f"data.{key} must be left out for {path}, whose features, labels and targets are arrays of their own,"
                f" got {value!r}. Leave it out"
            )
    roles = [name.removesuffix("_features") for name in arrays if name.endswith("_features")]
    present = [answer for answer in ANSWERS if f"train_{answer}" in arrays]
    check_only(path, present, arrays, roles)
    (answer,) = present
    width = arrays["train_features"].shape[-1]
    columns = tuple(map(str, arrays.get("columns", [f"column{number}" for number in range(width)])))
    tables = {role: _make_table(path, role, answer, arrays, columns=columns) for role in roles}
    if answer == "label":
        return make_dataset(tables, settings, _class_names(path, arrays, tables))
    counts = {role: np.atleast_2d(arrays[f"{role}_{answer}"].T).shape[0] for role in roles}
    if answer == "labels":
        return make_dataset(tables, settings, name_columns(path, "class_names", arrays, counts))
    return make_dataset(tables, settings, target_names=name_columns(path, NAMES, arrays, counts))


def _make_table(path: str, role: str, answer: str, arrays: Mapping[str, Any], *, columns: tuple[str, ...]) -> Table:
    features, values, name = arrays[f"{role}_features"], arrays[f"{role}_{answer}"], f"{role}_{answer}"
    if len(features.shape) != 2 or features.shape != (len(values), len(columns)) or not len(values):
        raise UserError(
            f"{path} must have '{role}_features' [n, {len(columns)}] and {name!r} [n], n > 0, got"
            f" {list(features.shape)} and {list(values.shape)}. Save arrays that fit each other"
        )
    if not np.issubdtype(features.dtype, np.number) or np.issubdtype(features.dtype, np.complexfloating):
        raise UserError(f"{path} must have '{role}_features' of numbers, got {features.dtype}. Save numbers")
    if not is_sparse(features) and not is_mapped(features):
        features = features.astype(np.float64, order="C")  # sums over rows would depend on the order of an array
    if answer == "target":
        return Table(features, columns, target=check_targets(path, name, values, len(values)))
    if answer == "labels":
        return Table(features, columns, labels=check_labels(path, name, values, len(values)))
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer) or values.min() < -1:
        seen = f" from {values.min()}" if np.issubdtype(values.dtype, np.number) else ""
        raise UserError(
            f"{path} must have {name!r} of integers from 0 on, -1 if missing, got {values.dtype}"
            f" {list(values.shape)}{seen}. Save class numbers"
        )
    return Table(features, columns, label=values.astype(np.int32))


def _class_names(path: str, arrays: Mapping[str, Any], tables: Mapping[str, Table]) -> tuple[str, ...]:
    largest = {role: int(table.label.max()) for role, table in tables.items() if table.label is not None}
    names = tuple(map(str, arrays.get("class_names", range(largest["train"] + 1))))
    for role, label in largest.items():
        if label >= len(names):
            raise UserError(f"{path} must have '{role}_label' below {len(names)}, got {label}. Add class_names")
    return names
