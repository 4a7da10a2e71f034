"""Transforms of columns of strings, categories or texts, to columns of numbers.

Rules: a missing value is a category like any other. A category that the training split does not have is 0 in every
column of `onehot`; `hash` gives it a column by its hash; `tfidf` leaves out unseen words.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxdistill.data.tables.parts import Parts
from jaxdistill.data.tables.table import Table
from jaxdistill.errors import UserError, unknown

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

Fitted = Mapping[str, np.ndarray]
"""The arrays of a fitted transform, by name."""


def select_columns(parts: Parts, columns: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of strings to transform: those named, or all.

    Raises:
        UserError: for a column that does not exist or is of numbers, and for a table without any.
    """
    table = parts.first
    for name in columns:
        if name not in table.strings:
            raise unknown("data.transforms", name, table.strings, "a column of strings")
    if not table.strings:
        raise UserError(
            f"data.transforms must encode columns of strings, got the numbers {[*table.names[:5]]} alone. Leave out"
            " onehot, hash and tfidf"
        )
    return tuple(columns) or tuple(table.strings)


def fit_onehot(parts: Parts, *columns: str) -> Fitted:
    """Finds the categories of each column in the training split, sorted."""
    words: dict[str, set[str]] = {name: set() for name in select_columns(parts, columns)}
    for part in parts:
        for name, categories in words.items():
            categories.update(part.strings[name].tolist())
    return {name: np.array(sorted(categories), np.str_) for name, categories in words.items()}


def onehot(fitted: Fitted, table: Table) -> Table:
    """Appends a column for each category, 1 where the value is that category."""
    for name, categories in fitted.items():
        values = (table.strings[name][:, None] == categories[None]).astype(np.float64)
        table = table.append(values, [f"{name}={category}" for category in categories], without=[name])
    return table


def fit_hash(parts: Parts, width: int, *columns: str) -> Fitted:
    """Returns the columns to hash and the number of columns that they are hashed to."""
    return {"columns": np.array(select_columns(parts, columns)), "width": np.array(width)}


def hash_columns(fitted: Fitted, table: Table) -> Table:
    """Appends the signed hashing of `column=value` to a number of columns.

    Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009,
    https://arxiv.org/abs/0902.2206; scikit-learn's `FeatureHasher` (MurmurHash3).
    """
    from sklearn.feature_extraction import FeatureHasher

    columns, width = [str(name) for name in fitted["columns"]], int(fitted["width"])
    rows = zip(*(table.strings[name] for name in columns), strict=True)
    words = [[f"{name}={value}" for name, value in zip(columns, row, strict=True)] for row in rows]
    values = FeatureHasher(width, input_type="string").transform(words).toarray()
    return table.append(values, [f"hash{number}" for number in range(width)], without=columns)


def fit_tfidf(parts: Parts, words: int, *columns: str) -> Fitted:
    """Finds the most frequent words of the training split's texts, and their inverse document frequencies."""
    names = select_columns(parts, columns)
    vectorizer = _vectorizer(max_features=words)
    try:
        vectorizer.fit(text for part in parts for text in _texts(part, names))
    except ValueError as error:
        raise UserError(
            f"data.transforms 'tfidf' must have texts with words in {[*names]}, got none ({error}). Take other columns"
        ) from error
    vocabulary = vectorizer.get_feature_names_out().astype(str)
    return {"columns": np.array(names), "vocabulary": vocabulary, "idf": np.asarray(vectorizer.idf_)}


def tfidf(fitted: Fitted, table: Table) -> Table:
    """Appends sparse columns: (1 + log of the count of a word) times its idf, rows of length 1."""
    columns = [str(name) for name in fitted["columns"]]
    vectorizer = _vectorizer(vocabulary=[str(word) for word in fitted["vocabulary"]])
    vectorizer.idf_ = fitted["idf"]
    values = vectorizer.transform(_texts(table, columns)).tocsr()
    return table.append(values, [str(word) for word in fitted["vocabulary"]], without=columns)


def _vectorizer(**options: object) -> "TfidfVectorizer":
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, **options)


def _texts(table: Table, columns: Sequence[str]) -> list[str]:
    return [" ".join(row) for row in zip(*(table.strings[name] for name in columns), strict=True)]
