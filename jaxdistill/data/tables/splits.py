"""Splits of tables: features of a width, with a label or a target each, dense or sparse until they are taken."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import TARGET_CLASS, Dataset, DatasetSettings, Split, Target
from jaxdistill.data.tables import featurizer as featurizers
from jaxdistill.data.tables.table import Matrix, Table, is_sparse
from jaxdistill.errors import UserError
from jaxdistill.runtime import files


@dataclasses.dataclass(frozen=True)
class Features(Split):
    """Examples in memory.

    Attributes:
        features: float32 `[n, width]`, or a scipy-sparse CSR matrix, of which a batch alone becomes dense.
        label: int32 `[n]`.
        target: float32 `[n, 1]`, standardised; `None` without.
    """

    features: Matrix
    label: np.ndarray
    target: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        rows = self.features[positions]
        taken = {"features": rows.toarray() if is_sparse(rows) else rows, "label": self.label[positions]}
        return taken | ({} if self.target is None else {"target": self.target[positions]})

    def labels(self) -> np.ndarray:
        return self.label


def make_dataset(tables: Mapping[str, Table], settings: DatasetSettings, class_names: Sequence[str] = ()) -> Dataset:
    """Returns a dataset of the features of tables.

    Args:
        tables: by role; transforms are fitted on `train` alone.
        settings: its `transforms` are fitted, or the fitted ones of its `featurizer` are read.
        class_names: of the labels; none for tables with targets.

    Raises:
        UserError: for transforms that do not fit the columns.
    """
    settings.check_no_images()
    if settings.featurizer and settings.transforms:
        raise UserError(
            f"data.transforms must be left out beside data.featurizer, got {list(settings.transforms)}. The fitted"
            f" transforms are those of {settings.featurizer}"
        )
    if settings.featurizer:
        featurizer = featurizers.load(pathlib.Path(files.input_path("data.featurizer", settings.featurizer)))
    else:
        featurizer = featurizers.fit(settings.transforms, tables["train"])
    splits = {role: _make_split(featurizer, table) for role, table in tables.items()}
    names = tuple(class_names) or (TARGET_CLASS,)
    features = splits["train"].features
    target = Target(settings.target or "target", *featurizer.target)
    return Dataset(
        splits,
        names,
        features.shape[1:],
        featurizer=featurizer,
        is_sparse=is_sparse(features),
        targets=() if tables["train"].target is None else (target,),
    )


def _make_split(featurizer: featurizers.Featurizer, table: Table) -> Features:
    features = featurizers.apply(featurizer, table)
    if table.target is None:
        label = np.full(len(table), UNLABELLED, np.int32) if table.label is None else table.label.astype(np.int32)
        return Features(features, label)
    mean, scale = featurizer.target
    missing = np.isnan(table.target)
    target = np.where(missing, 0, (table.target - mean) / scale).astype(np.float32)
    return Features(features, np.where(missing, UNLABELLED, 0).astype(np.int32), target[:, None])
