"""JSON files of a run, as the report reads them."""

import pathlib
from typing import Any

from jaxdistill.runtime import files

EVALUATE_AGAIN = "Remove it and results.json, and the same command evaluates again."


def read_optional(path: pathlib.Path, kind: type | tuple[type, ...] = (dict, list)) -> Any:
    """Reads a JSON file of the run; None if it is missing.

    Raises:
        UserError: if it is not JSON, or of another kind.
    """
    return files.read_json(path, kind, EVALUATE_AGAIN) if path.is_file() else None
