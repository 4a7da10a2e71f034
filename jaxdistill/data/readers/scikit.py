"""The tables that scikit-learn carries: breast cancer, wine, handwritten digits as vectors, diabetes.

Each is split by chance, 60 % to train on, 20 % to validate on, 20 % to test on (`tables.table.split_rows`).
"""

import functools
from collections.abc import Callable

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.tables import Table, make_dataset
from jaxdistill.data.tables.table import split_rows

LOADERS = {
    "breast_cancer": "load_breast_cancer",
    "wine": "load_wine",
    "digits_table": "load_digits",
    "diabetes": "load_diabetes",
}
"""Functions of `sklearn.datasets` by the name of the dataset."""


def read(settings: DatasetSettings) -> Dataset:
    """Returns a table of scikit-learn by its name.

    569 tumours of 30 features ("breast_cancer", 2 classes), 178 wines of 13 ("wine", 3 classes), 1,797 digits of 64
    ("digits_table", 10 classes), and 442 patients of 10 ("diabetes", a target).
    """
    settings.check_no_path()
    settings.check_no_splits()
    tables, class_names = _load(settings.name)
    return make_dataset(tables, settings, class_names)


@functools.cache
def _load(name: str) -> tuple[dict[str, Table], tuple[str, ...]]:
    from sklearn import datasets

    arguments = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, LOADERS[name])(**arguments)
    columns, numbers = tuple(map(str, bunch.feature_names)), np.asarray(bunch.data, np.float64)
    if name == "diabetes":
        return split_rows(Table(numbers, columns, target=np.asarray(bunch.target, np.float64))), ()
    table = Table(numbers, columns, label=np.asarray(bunch.target, np.int32))
    return split_rows(table), tuple(map(str, bunch.target_names))


READERS: dict[str, Callable[[DatasetSettings], Dataset]] = dict.fromkeys(LOADERS, read)
"""The readers of this file by the name of the dataset."""
