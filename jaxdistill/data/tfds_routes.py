"""The feature of a TFDS dataset that chooses a network for each example."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.routes import add_routes
from jaxdistill.data.tfds_examples import read_feature
from jaxdistill.errors import UserError, unknown


def read_feature_routes(
    dataset: Dataset, builder: Any, splits: Mapping[str, str], settings: DatasetSettings
) -> Dataset:
    """Returns a dataset with the routes of the feature that `settings` name, if they do.

    Args:
        dataset: the examples of `splits`, without routes.
        builder: TFDS's.
        splits: role -> split, as TFDS writes it.
        settings: of the dataset.

    Raises:
        UserError: for an unknown feature, one that is neither of texts, classes, booleans nor whole numbers, and an
            example without a value.
    """
    features, name = builder.info.features, settings.route
    if not name:
        return dataset
    if name not in features:
        raise unknown("data.route", name, features, f"a feature of {settings.name}")
    if not _is_countable(features[name]):
        raise UserError(
            f"data.route must be a feature of texts, classes, booleans or whole numbers, got {name!r} of"
            f" {settings.name!r}, {' '.join(repr(features[name]).split())[:80]}. Name another feature"
        )
    values = {role: [*_parse(features[name], read_feature(builder, split, name))] for role, split in splits.items()}
    return add_routes(
        dataset, values, lambda role, row: f"example {row} of the split {splits[role]!r} of {settings.name!r}"
    )


def _is_countable(feature: Any) -> bool:
    if feature.shape != ():
        return False
    is_whole = np.issubdtype(feature.np_dtype, np.integer) or np.issubdtype(feature.np_dtype, np.bool_)
    return type(feature).__name__ == "Text" or is_whole


def _parse(feature: Any, values: Iterator[Any]) -> Iterator[Any]:
    """Yields names of classes, strings, and numbers; `None` for a missing class, and bytes unless they are UTF-8."""
    for value in values:
        if type(feature).__name__ == "ClassLabel":
            yield feature.names[int(value)] if value >= 0 else None
        elif isinstance(value, bytes):
            yield _decode(value)
        else:
            yield value.item() if isinstance(value, np.ndarray | np.generic) else value


def _decode(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value
