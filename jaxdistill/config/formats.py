"""References to weights in the formats of other libraries, `FORMAT:PATH`, and the networks that they describe."""

import importlib
from typing import Any

from jaxdistill.config import registry
from jaxdistill.errors import UserError
from jaxdistill.runtime.files import local_path


def format_of(text: str) -> str:
    """Returns the name of the format before the colon of `FORMAT:PATH`; "" for another reference."""
    name, colon, _ = text.partition(":")
    return str(name) if colon and name in registry.names("weight_format") else ""


def describe(text: str, key: str) -> dict[str, Any]:
    """Returns the config keys of the network of weights in another format: `model` and its fields.

    Args:
        text: the reference.
        key: the key that holds it, for messages.

    Raises:
        UserError: for weights that do not exist or cannot be read, and another model than one of those here.
    """
    name, _, path = text.partition(":")
    if not path:
        raise UserError(f"{key} must name a file or a folder, got {text!r}. Write '{name}:PATH'")
    pretrained = importlib.import_module(registry.ROOMS["weight_format"].module)  # opened where a config names one
    try:
        return pretrained.describe(name, local_path(key, path), text)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
