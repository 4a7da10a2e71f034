"""Texts in the rows of CSV, TSV, JSONL or Parquet files, with supervision or without."""

import dataclasses

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.routes import read_routes
from jaxdistill.data.row_files import read_roles
from jaxdistill.data.supervision import KEYS, NO_SUPERVISION, name_columns, parse
from jaxdistill.data.tokenized_texts import TextRows, check_settings, check_texts, tokenize
from jaxdistill.errors import UserError


def read(settings: DatasetSettings) -> Dataset:
    """Returns the tokens of the column `text`, and of `pair`, with the supervision of columns that are named.

    Classes are the different labels of the training rows, sorted. A text longer than `length` tokens is cut, and an
    empty one is its special tokens. The column `route` chooses a network. `row_files.read_roles` describes the files.

    Raises:
        UserError: for a missing column, file or tokenizer, and for a row that cannot be read, with its number.
    """
    check_settings(settings)
    if not settings.text:
        raise UserError("data.text must be the name of a column, got ''. Name that of the texts")
    supervised = name_columns(settings)
    named = {"data.text": settings.text, "data.pair": settings.pair, "data.route": settings.route}
    columns, place = read_roles(settings, named | {key: [*supervised] for key in supervised.values()})
    for role, values in columns.items():
        for name in filter(None, (settings.text, settings.pair)):
            check_texts(values[name], role, place)
    supervision = NO_SUPERVISION
    if supervised:
        values = {role: {name: part[name] for name in supervised} for role, part in columns.items()}
        supervision = parse(values, settings, place)
    rows_by_role = {
        role: TextRows(
            part[settings.text], part.get(settings.pair), supervision.label.get(role), supervision.arrays.get(role, {})
        )
        for role, part in columns.items()
    }
    dataset = tokenize(rows_by_role, supervision.class_names, settings, place)
    dataset = dataclasses.replace(dataset, targets=supervision.targets, keys=(*KEYS, "splits.seed"))
    return read_routes(dataset, settings, columns, place)
