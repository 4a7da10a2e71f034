"""Transforms of tables by name, with their arguments."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxdistill.config import registry
from jaxdistill.data.tables import numbers, strings
from jaxdistill.data.tables.table import Table
from jaxdistill.errors import UserError, unknown

Fitted = numbers.Fitted


@dataclasses.dataclass(frozen=True)
class Transform:
    """A transform of a table, fitted on the training split.

    Attributes:
        fit: `(parts, *arguments) -> {name: array}`.
        apply: `(fitted, table) -> table`.
        constraint: on the arguments, for messages.
        example: of the transform in a config.
        types: of the first arguments; further ones are names of columns if `takes_columns`.
        required: the number of arguments that must be given.
        holds: whether the typed arguments are valid.
        takes_columns: whether names of columns may follow.
        takes_sparse: whether the numbers may be sparse.
        of_strings: whether it makes numbers of columns of strings.
    """

    fit: Callable[..., Fitted]
    apply: Callable[[Fitted, Table], Table]
    constraint: str
    example: str
    types: tuple[type, ...] = ()
    required: int = 0
    holds: Callable[..., bool] = lambda *arguments: True
    takes_columns: bool = False
    takes_sparse: bool = False
    of_strings: bool = False

    def parse(self, text: str) -> tuple[Any, ...]:
        """Returns the arguments of a transform as a config writes it, such as `"hash:16,colour"`.

        Raises:
            UserError: for arguments that it does not take.
        """
        _, colon, rest = text.partition(":")
        words = [word.strip() for word in rest.split(",")] if colon else []
        typed, columns = words[: len(self.types)], words[len(self.types) :]
        try:
            values = [read(word) for read, word in zip(self.types, typed, strict=False)]
            valid = len(values) >= self.required and self.holds(*values) and (self.takes_columns or not columns)
        except ValueError:
            valid = False
        if not valid or "" in columns:
            raise UserError(
                f"data.transforms {text!r} must have {self.constraint}, got {rest!r}. An example is {self.example!r}"
            )
        return (*values, *columns)


def _holds_strategy(strategy: str, value: float | None = None) -> bool:
    return strategy in ("mean", "median", "constant") and (value is None or strategy == "constant")


def _is_count(number: int) -> bool:
    return number >= 1


def _reduction(fit: Callable[..., Fitted], apply: Callable[[Fitted, Table], Table], example: str, sparse: bool = False):
    """Returns a transform whose argument is a number of dimensions."""
    constraint, facts = "a number of dimensions, 1 or more", {"takes_sparse": sparse}
    return Transform(fit, apply, constraint, example, types=(int,), required=1, holds=_is_count, **facts)


TRANSFORMS = {
    "impute": Transform(
        numbers.fit_impute,
        numbers.impute,
        "'mean', 'median', or 'constant' with a number",
        "impute:median",
        types=(str, float),
        required=1,
        holds=_holds_strategy,
    ),
    "indicator": Transform(numbers.fit_indicator, numbers.indicator, "no argument", "indicator"),
    "clip": Transform(
        numbers.fit_clip,
        numbers.clip,
        "a fraction of the examples above 0 and below 0.5",
        "clip:0.01",
        types=(float,),
        required=1,
        holds=lambda fraction: 0 < fraction < 0.5,
    ),
    "standardize": Transform(numbers.fit_standardize, numbers.standardize, "no argument", "standardize"),
    "scale": Transform(numbers.fit_scale, numbers.scale, "no argument", "scale", takes_sparse=True),
    "pca": _reduction(numbers.fit_pca, numbers.pca, "pca:16"),
    "denoise": _reduction(numbers.fit_pca, numbers.denoise, "denoise:16"),
    "svd": _reduction(numbers.fit_svd, numbers.project, "svd:100", sparse=True),
    "project": _reduction(numbers.fit_project, numbers.project, "project:64", sparse=True),
    "onehot": Transform(
        strings.fit_onehot,
        strings.onehot,
        "names of columns, or none for all of strings",
        "onehot",
        takes_columns=True,
        takes_sparse=True,
        of_strings=True,
    ),
    "hash": Transform(
        strings.fit_hash,
        strings.hash_columns,
        "a number of columns, 1 or more, and names of columns, or none for all of strings",
        "hash:16",
        types=(int,),
        required=1,
        holds=_is_count,
        takes_columns=True,
        takes_sparse=True,
        of_strings=True,
    ),
    "tfidf": Transform(
        strings.fit_tfidf,
        strings.tfidf,
        "a number of words, 1 or more, and names of columns, or none for all of strings",
        "tfidf:5000",
        types=(int,),
        required=1,
        holds=_is_count,
        takes_columns=True,
        takes_sparse=True,
        of_strings=True,
    ),
}
"""Transforms by name."""

SPARSE = tuple(name for name, transform in TRANSFORMS.items() if transform.takes_sparse)
"""The names of those that take sparse numbers."""


def find(text: str) -> tuple[Transform, tuple[Any, ...]]:
    """Returns a transform and its arguments, as a config writes them.

    Raises:
        UserError: for an unknown name, and arguments that it does not take.
    """
    if not isinstance(text, str):
        raise UserError(f"data.transforms must be names with arguments, got {text!r}. Write for example 'pca:16'")
    name = text.partition(":")[0]
    if name not in TRANSFORMS:
        raise unknown("data.transforms", name, TRANSFORMS, "a transform")
    transform = registry.find("transform", name, "data.transforms")
    return transform, transform.parse(text)
