"""Datasets by name: a reader in `readers/`, a reader of the user's own, or a dataset of TFDS."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping

from jaxdistill.config import registry
from jaxdistill.data import readers
from jaxdistill.data.dataset import Dataset, DatasetSettings, NoiseSettings

TFDS = "tfds"
"""The reader of all names that are no reader's."""


def _collect() -> dict[str, Callable[[DatasetSettings], Dataset]]:
    names = [info.name for info in pkgutil.iter_modules(readers.__path__) if info.name != TFDS]
    return {name: importlib.import_module(f"{readers.__name__}.{name}").read for name in names}


DATASETS = _collect()
"""Readers by name, without TFDS."""


def read(settings: DatasetSettings) -> Dataset:
    """Opens a dataset.

    Args:
        settings: its name is in `DATASETS`, is `"package.module:function"`, or that of a TFDS dataset.

    Raises:
        UserError: for missing names, folders and splits, with the existing ones.
    """
    if settings.name in DATASETS or ":" in settings.name.partition("/")[0]:
        reader = registry.find("dataset", settings.name, "data.name")
    else:
        reader = importlib.import_module(f"{readers.__name__}.{TFDS}").read
    return dataclasses.replace(reader(settings), name=settings.name)


def load(
    name: str,
    *,
    data_dir: str = "",
    path: str = "",
    splits: Mapping[str, str] | None = None,
    size: int = 0,
    channels: int = 0,
    noise: NoiseSettings | None = None,
    length: int = 0,
) -> Dataset:
    """Opens a dataset by name.

    Args:
        name: a file of `readers/`, `"package.module:function"`, or a name of TFDS.
        data_dir: the folder of TFDS datasets.
        path: the file of "npz" or "text".
        splits: role -> split of a TFDS dataset, or part of a text.
        size: the side in pixels of the square that images are resized to; 0 for none.
        channels: 1 or 3 to convert images to; 0 for none.
        noise: settings of "noise"; `None` for the default ones.
        length: number of tokens of a window of a text.

    Raises:
        UserError: for missing names, folders and splits, with the existing ones.
    """
    named = tuple((splits or {}).items())
    return read(
        DatasetSettings(
            name=name,
            data_dir=data_dir,
            path=path,
            splits=named,
            size=size,
            channels=channels,
            length=length,
            noise=noise or NoiseSettings(),
        )
    )
