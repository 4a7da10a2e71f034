"""Datasets by name: a reader in `readers/`, a reader of the user's own, or a dataset of TFDS."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence

from jaxdistill.config import registry
from jaxdistill.data import readers
from jaxdistill.data.dataset import AnswerSettings, Dataset, DatasetSettings, DenseSettings, NoiseSettings
from jaxdistill.data.packing import pack
from jaxdistill.errors import UserError

TFDS = "tfds"
"""The reader of all names that are no reader's."""


def _collect() -> dict[str, Callable[[DatasetSettings], Dataset]]:
    names = [info.name for info in pkgutil.iter_modules(readers.__path__) if info.name != TFDS]
    modules = {name: importlib.import_module(f"{readers.__name__}.{name}") for name in names}
    entries = [getattr(module, "READERS", {name: module.read}) for name, module in modules.items()]
    return {name: read for table in entries for name, read in table.items()}


DATASETS = _collect()
"""Readers by name, without TFDS: the file's, or those of its table `READERS`."""


def read(settings: DatasetSettings) -> Dataset:
    """Opens a dataset.

    Args:
        settings: its name is in `DATASETS`, is `"package.module:function"`, or that of a TFDS dataset.

    Raises:
        UserError: for missing names, folders and splits, with the existing ones.
    """
    if settings.name in DATASETS or ":" in settings.name.partition("/")[0]:
        reader = registry.find("dataset", settings.name, "data.name")
        if settings.name in DATASETS:
            settings.check_no_folder()
        dataset = reader(settings) if settings.name in DATASETS else _read_by(reader, settings)
    else:
        dataset = importlib.import_module(f"{readers.__name__}.{TFDS}").read(settings)
    named = dataclasses.replace(dataset, name=settings.name)
    return pack(named) if settings.packing else named


def _read_by(reader: Callable[[DatasetSettings], Dataset], settings: DatasetSettings) -> Dataset:
    """Returns the dataset of a user's own reader, or raises `UserError` if it fails or returns something else."""
    try:
        dataset = reader(settings)
    except UserError:
        raise
    except Exception as error:  # a user's function may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"data.name must be a function of DatasetSettings that returns a Dataset, got {settings.name!r}"
            f" ({reason}). Correct it"
        ) from error
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"data.name must be a function that returns a Dataset, got {settings.name!r}, which returns a"
            f" {type(dataset).__name__}. Correct it"
        )
    return dataset


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
    text: str = "",
    pair: str = "",
    label: str = "",
    tokenizer: str = "",
    teacher_tokenizer: str = "",
    target: str = "",
    columns: Sequence[str] = (),
    transforms: Sequence[str] = (),
    featurizer: str = "",
    dense: DenseSettings | None = None,
    answers: AnswerSettings | None = None,
    packing: bool = False,
    route: str = "",
) -> Dataset:
    """Opens a dataset by name.

    Args:
        name, data_dir: a file of `readers/` or `"package.module:function"`; or a name of TFDS, and its folder.
        path: the file of "npz", "table", "text", "text_rows" or "answers".
        splits: role -> split of a TFDS dataset, part of a text, or file of rows.
        size, channels: side in pixels of the square, and channels, that images are converted to; 0 for none.
        noise, dense, answers: settings of "noise", of masks and boxes, and of "answers".
        length, packing: number of tokens of a window or of the longest text; whether training rows hold several texts.
        text, pair, label, tokenizer, teacher_tokenizer: columns of texts, or features, and of their labels or a
            table's; the folders of checkpoints whose tokens the texts become.
        target, columns, route: the column of targets, instead of labels; those of features, all others if empty; and
            the one that chooses a network for each example.
        transforms, featurizer: of a table, fitted on its training split; or a stage's folder with fitted ones.

    Raises:
        UserError: for missing names, folders and splits, with the existing ones.
    """
    lists = {"splits": tuple((splits or {}).items()), "columns": tuple(columns), "transforms": tuple(transforms)}
    keys = {"text": text, "pair": pair, "label": label, "target": target, "route": route, "featurizer": featurizer}
    keys |= {"tokenizer": tokenizer, "teacher_tokenizer": teacher_tokenizer}
    parts = {"noise": noise, "dense": dense, "answers": answers}
    return read(
        DatasetSettings(
            name=name,
            data_dir=data_dir,
            path=path,
            size=size,
            channels=channels,
            length=length,
            packing=packing,
            **lists,
            **keys,
            **{name: part for name, part in parts.items() if part is not None},
        )
    )
