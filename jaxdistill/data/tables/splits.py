"""Splits of tables: features of a width, with a label or a target each, dense or sparse until they are taken."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import TARGET_CLASS, Dataset, DatasetSettings, Split, Target, take_arrays
from jaxdistill.data.spilled import is_mapped
from jaxdistill.data.tables import featurizer as featurizers
from jaxdistill.data.tables.table import Matrix, Table, is_sparse, mark_missing
from jaxdistill.errors import UserError
from jaxdistill.runtime import files


@dataclasses.dataclass(frozen=True)
class Features(Split):
    """Examples with their features.

    Attributes:
        features: float32 `[n, width]`, mapped if they are large, or a scipy-sparse CSR matrix, of which a batch alone
            becomes dense.
        label: int32 `[n]`.
        supervision: nothing, `target` float32 `[n, targets]`, standardised, or `labels` float32 `[n, classes]`.
    """

    features: Matrix
    label: np.ndarray
    supervision: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        rows = self.features[positions]
        taken = {"features": rows.toarray() if is_sparse(rows) else rows, "label": self.label[positions]}
        return taken | take_arrays(self.supervision, positions)

    def labels(self) -> np.ndarray:
        return self.label

    @property
    def is_mapped(self) -> bool:
        return is_mapped(self.features)


def make_dataset(
    tables: Mapping[str, Table],
    settings: DatasetSettings,
    class_names: Sequence[str] = (),
    target_names: Sequence[str] = (),
) -> Dataset:
    """Returns a dataset of the features of tables.

    Args:
        tables: by role; transforms are fitted on `train` alone.
        settings: its `transforms` are fitted, or the fitted ones of its `featurizer` are read.
        class_names: of the labels; none for tables with targets.
        target_names: of the targets; those of `settings` if empty.

    Raises:
        UserError: for transforms that do not fit the columns.
    """
    settings.check_no_images()
    if settings.featurizer and settings.transforms:
        raise UserError(
            f"data.transforms must be left out beside data.featurizer, got {list(settings.transforms)}. The fitted"
            f" transforms are those of {settings.featurizer}"
        )
    columns = _name_targets(tables["train"], settings, target_names)
    if settings.featurizer:
        featurizer = featurizers.load(pathlib.Path(files.input_path("data.featurizer", settings.featurizer)))
        _check_targets(featurizer, columns)
    else:
        featurizer = featurizers.fit(settings.transforms, tables["train"], columns)
    splits = {role: _make_split(featurizer, table) for role, table in tables.items()}
    names = tuple(class_names) or (TARGET_CLASS,)
    features = splits["train"].features
    return Dataset(
        splits,
        names,
        features.shape[1:],
        featurizer=featurizer,
        is_sparse=is_sparse(features),
        targets=tuple(Target(name, *fitted) for name, fitted in zip(columns, featurizer.targets, strict=False)),
    )


def _name_targets(train: Table, settings: DatasetSettings, names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the targets of a table: those given, or their columns; none without targets."""
    if train.target is None:
        return ()
    return tuple(names) or settings.targets or (settings.target or "target",)


def _check_targets(featurizer: featurizers.Featurizer, names: tuple[str, ...]) -> None:
    """Raises `UserError` for a stored featurizer of other targets."""
    stored = featurizer.target_names
    if names and (len(names) != len(featurizer.targets) or (stored and names != stored)):
        raise UserError(
            f"data.targets must be those of data.featurizer, {[*stored] or 'one target'}, got {[*names]}. Name the same"
            " in the same order, or another featurizer"
        )


def _make_split(featurizer: featurizers.Featurizer, table: Table) -> Features:
    features = featurizers.apply(featurizer, table)
    if table.labels is not None:
        return Features(features, mark_missing(table.labels), {"labels": table.labels.astype(np.float32)})
    if table.target is None:
        label = np.full(len(table), UNLABELLED, np.int32) if table.label is None else table.label.astype(np.int32)
        return Features(features, label)
    mean, scale = np.array(featurizer.targets).T
    target = ((table.target.reshape(len(table), -1) - mean) / scale).astype(np.float32)
    # One target that is missing is 0: its example has no label. Of several it is NaN, since others may be there.
    present = target if table.target.ndim == 2 else np.nan_to_num(target)
    return Features(features, mark_missing(target), {"target": present})
