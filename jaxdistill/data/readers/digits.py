"""The handwritten digits embedded in scikit-learn: 1,797 scans of 8 x 8 pixels in 17 grey levels."""

import functools
import importlib.util
import pathlib

import numpy as np

from jaxdistill.data.dataset import Arrays, Dataset, DatasetSettings
from jaxdistill.data.images import resize_splits


def read(settings: DatasetSettings) -> Dataset:
    """Returns 1,077 training, 360 validation and 360 test examples.

    The split is drawn by NumPy's legacy generator, whose stream is frozen across versions.
    """
    settings.check_no_path()
    settings.check_no_splits()
    return resize_splits(_load(), settings.size, settings.channels)


@functools.cache
def _load() -> Dataset:
    # Only the file is read: importing its package takes longer than a start from compiled programs.
    folder = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent
    rows = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    image = np.round(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    label = rows[:, -1].astype(np.int32)
    order = np.random.RandomState(0).permutation(len(label))
    parts = {"train": order[:1077], "validation": order[1077:1437], "test": order[1437:]}
    splits = {role: Arrays(image[part], label[part]) for role, part in parts.items()}
    return Dataset(splits, tuple(map(str, range(10))), image.shape[1:])
