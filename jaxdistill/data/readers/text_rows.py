"""Texts in the rows of CSV, TSV, JSONL or Parquet files, with labels or without."""

import dataclasses

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.labels import number_classes
from jaxdistill.data.routes import read_routes
from jaxdistill.data.row_files import read_roles
from jaxdistill.data.tokenized_texts import TextRows, check_settings, check_texts, tokenize
from jaxdistill.errors import UserError


def read(settings: DatasetSettings) -> Dataset:
    """Returns the tokens of the column `text`, and of `pair`, with classes from `label` if they are named.

    Classes are the different labels of the training rows, sorted. A text longer than `length` tokens is cut, and an
    empty one is its special tokens. The column `route` chooses a network. `row_files.read_roles` describes the files.

    Raises:
        UserError: for a missing column, file or tokenizer, and for a row that cannot be read, with its number.
    """
    check_settings(settings)
    if not settings.text:
        raise UserError("data.text must be the name of a column, got ''. Name that of the texts")
    named = {"data.text": settings.text, "data.pair": settings.pair, "data.label": settings.label}
    named |= {"data.route": settings.route}
    columns, place = read_roles(settings, named)
    for role, values in columns.items():
        for name in filter(None, (settings.text, settings.pair)):
            check_texts(values[name], role, place)
    class_names, labels = (), {}
    if settings.label:
        class_names, labels = number_classes({role: values[settings.label] for role, values in columns.items()}, place)
    rows_by_role = {
        role: TextRows(values[settings.text], values.get(settings.pair), labels.get(role))
        for role, values in columns.items()
    }
    dataset = tokenize(rows_by_role, class_names, settings, place)
    dataset = dataclasses.replace(dataset, keys=("splits.seed",))
    return read_routes(dataset, settings, columns, place)
