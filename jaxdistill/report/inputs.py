"""JSON files of a run, as the report reads them."""

import pathlib
from typing import Any

from jaxdistill.runtime import files


def evaluate_again(path: pathlib.Path) -> str:
    """Returns the remedy for a damaged file of an evaluation, which is made again where `results.json` is missing."""
    removed = "it" if path.name == "results.json" else "it and results.json"
    return f"Remove {removed}, and the command of the run evaluates again."


def read_optional(path: pathlib.Path, kind: type | tuple[type, ...] = (dict, list)) -> Any:
    """Reads a JSON file of the run; None if it is missing.

    Raises:
        UserError: if it is not JSON, or of another kind.
    """
    return files.read_json(path, kind, evaluate_again(path)) if path.is_file() else None
