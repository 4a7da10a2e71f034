"""Files of logits: `.npz` and Parquet, by the positions of the examples."""

import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.errors import UserError

LOGITS, ID, SPLIT, CLASS_NAMES = "logits", "id", "split", "class_names"

Part = tuple[np.ndarray, np.ndarray | None]
"""Logits `[examples, ..., classes]` of a split, and the positions of their examples; `None` if they are in order."""


def read(path: pathlib.Path, lengths: Mapping[str, int], class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the logits of each split of a file, in the order of the examples and of the classes.

    Args:
        path: `.npz`, `.parquet`, or a folder of `.parquet` files.
        lengths: the number of examples of each split, by role.
        class_names: of the data.

    Raises:
        UserError: for a file that cannot be read, examples that are missing or come twice, and other classes.
    """
    if path.suffix == ".npz":
        parts, names = _read_npz(path)
    elif path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet"))):
        parts, names = _read_parquet(path), None
    else:
        raise UserError(f"the file of logits must be .npz or .parquet, got {str(path)!r}. Name an existing one")
    splits = {}
    for role, (logits, positions) in parts.items():
        if role not in lengths:
            raise UserError(f"{path} must have logits of the splits {[*lengths]}, got {role!r}. Remove it")
        splits[role] = _put_in_order(f"{path}, split {role}", logits, positions, lengths[role])
    if not splits:
        raise UserError(f"{path} must have an array such as train_{LOGITS}, got none. Add it")
    return splits if names is None else _permute(path, splits, names, class_names)


def _read_npz(path: pathlib.Path) -> tuple[dict[str, Part], list[str] | None]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"the file of logits must be a readable .npz, got {str(path)!r} ({error}). Name one") from error
    roles = [name.removesuffix(f"_{LOGITS}") for name in arrays if name.endswith(f"_{LOGITS}")]
    names = [str(name) for name in arrays[CLASS_NAMES]] if CLASS_NAMES in arrays else None
    return {role: (arrays[f"{role}_{LOGITS}"], arrays.get(f"{role}_{ID}")) for role in roles}, names


def _read_parquet(path: pathlib.Path) -> dict[str, Part]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{path} must be read with pyarrow, got none. pip install 'jaxdistill[parquet]'") from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"the file of logits must be readable Parquet, got {str(path)!r} ({error})") from error
    missing = [name for name in (LOGITS, ID) if name not in table.column_names]
    if missing:
        raise UserError(f"{path} must have the columns {LOGITS} and {ID}, got {table.column_names}. Add {missing}")
    logits, positions = _to_array(path, table[LOGITS]), table[ID].to_numpy()
    roles = table[SPLIT].to_numpy() if SPLIT in table.column_names else np.full(len(positions), "train")
    return {str(role): (logits[roles == role], positions[roles == role]) for role in dict.fromkeys(roles.tolist())}


def _to_array(path: pathlib.Path, column: Any) -> np.ndarray:
    """Returns a column of nested lists of one shape as an array."""
    import pyarrow

    values, shape = column.combine_chunks(), [len(column)]
    while pyarrow.types.is_list(values.type) or pyarrow.types.is_large_list(values.type):
        lengths = np.unique(values.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) != 1:
            raise UserError(f"{path} must have {LOGITS} of one length, got lists of {lengths.tolist()[:5]}. Pad them")
        shape.append(int(lengths[0]))
        values = values.flatten()
    while pyarrow.types.is_fixed_size_list(values.type):
        shape.append(values.type.list_size)
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def _put_in_order(where: str, logits: np.ndarray, positions: np.ndarray | None, length: int) -> np.ndarray:
    """Returns the logits of the examples 0 to length - 1."""
    if logits.ndim < 2 or not np.issubdtype(logits.dtype, np.floating):
        raise UserError(f"{where} must have float logits [examples, classes], got {logits.dtype} {list(logits.shape)}")
    if positions is None:
        if len(logits) != length:
            raise UserError(f"{where} must have logits of {length} examples, got {len(logits)}. Add them, or their ids")
        return logits
    if len(positions) != len(logits) or not np.issubdtype(positions.dtype, np.integer):
        raise UserError(f"{where} must have a whole number as id for each row, got {positions.dtype} {positions.shape}")
    counts = np.bincount(positions[(positions >= 0) & (positions < length)], minlength=length)
    wrong = np.flatnonzero(counts != 1)
    if len(wrong) or len(positions) != length:
        reason = f"{int(counts[wrong[0]])} rows of example {wrong[0]}" if len(wrong) else "other ids besides"
        raise UserError(f"{where} must have one row for each of {length} examples, got {reason}. Correct the ids")
    ordered = np.empty_like(logits)
    ordered[positions] = logits
    return ordered


def _permute(
    path: pathlib.Path, splits: Mapping[str, np.ndarray], names: Sequence[str], class_names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns logits in the order of the classes of the data."""
    if sorted(names) != sorted(class_names):
        raise UserError(
            f"{path} must have the classes of the data, {list(class_names)[:5]} ..., got {list(names)[:5]} ... Correct"
            f" {CLASS_NAMES}"
        )
    order = [list(names).index(name) for name in class_names]
    return {role: logits[..., order] for role, logits in splits.items()}
