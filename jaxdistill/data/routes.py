"""A column that chooses a network for each example."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings, Split
from jaxdistill.data.labels import Place
from jaxdistill.data.spilled import gather
from jaxdistill.errors import UserError

ROUTE = "route"
"""The field of an example with the number of its value, int32."""


@dataclasses.dataclass(frozen=True)
class WithRoute(Split):
    """A base split whose examples have a route, int32 `[n]`, besides."""

    split: Split
    route: np.ndarray

    def __len__(self) -> int:
        return len(self.split)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        return self.split.take(positions) | {ROUTE: self.route[positions]}

    def labels(self) -> np.ndarray:
        return self.split.labels()

    @property
    def token_counts(self) -> np.ndarray | None:
        return self.split.token_counts

    @property
    def is_mapped(self) -> bool:
        return self.split.is_mapped


def read_routes(
    dataset: Dataset, settings: DatasetSettings, columns: Mapping[str, Mapping[str, Sequence[Any]]], place: Place
) -> Dataset:
    """Returns a dataset with the routes of the column that `settings` name, if they do; `columns` are by role."""
    if not settings.route:
        return dataset
    return add_routes(dataset, {role: values[settings.route] for role, values in columns.items()}, place)


def add_routes(dataset: Dataset, values: Mapping[str, Sequence[Any]], place: Place) -> Dataset:
    """Returns a dataset whose examples have the number of their value among all values of all splits, sorted.

    Args:
        dataset: without routes.
        values: strings, whole numbers or booleans of each split, by role.
        place: describes a row of a role in an error.

    Raises:
        UserError: for a missing value, or one of another type.
    """
    words = {
        role: [_word(value, role, row, place) for row, value in enumerate(gather(column))]
        for role, column in values.items()
    }
    names = sorted({word for column in words.values() for word in column})
    numbers = {name: number for number, name in enumerate(names)}
    splits = {
        role: WithRoute(split, np.array([numbers[word] for word in words[role]], np.int32))
        for role, split in dataset.splits.items()
    }
    return dataclasses.replace(dataset, splits=splits, routes=tuple(names), keys=(*dataset.keys, ROUTE))


def _word(value: Any, role: str, row: int, place: Place) -> str:
    if not isinstance(value, str | int | np.integer | np.bool_) or value == "":
        raise UserError(
            f"{place(role, row)} must have a string or a whole number in the column data.route, got {value!r}. Fill it"
            " in, or name another column"
        )
    return str(value)
