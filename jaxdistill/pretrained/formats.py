"""Formats of pretrained weights by the prefix of a reference, such as `hf:FOLDER`."""

import pathlib
from collections.abc import Callable
from typing import Any

from jaxdistill.pretrained import huggingface, keras_file, torch_file
from jaxdistill.pretrained.pretrained import Pretrained

FORMATS: dict[str, Callable[[pathlib.Path, str], Pretrained]] = {
    "hf": huggingface.open_folder,
    "torch": torch_file.open_file,
    "keras": keras_file.open_file,
}
"""Functions that open weights of a format, `open(path, reference)`; they read headers alone."""


def open_weights(name: str, path: pathlib.Path, reference: str) -> Pretrained:
    """Opens the weights of one network; reads their headers alone.

    Args:
        name: of the format.
        path: of the weights.
        reference: as the config names them, for messages.

    Raises:
        UserError: for weights that do not exist or cannot be read.
    """
    return FORMATS[name](path, reference)


def describe(name: str, path: pathlib.Path, reference: str) -> dict[str, Any]:
    """Returns the config keys of the network of weights: `model` and its fields; arguments as of `open_weights`."""
    correspondence = open_weights(name, path, reference).correspondence
    return {"model": correspondence.model, **correspondence.fields}
