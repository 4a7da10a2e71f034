"""References to weights in the formats of other libraries, `FORMAT:PATH`, and the networks that they describe."""

import importlib
from collections.abc import Mapping
from typing import Any

from jaxdistill.config import registry
from jaxdistill.config.parse import parse
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime.files import input_path


def format_of(text: str) -> str:
    """Returns the name of the format before the colon of `FORMAT:PATH`; "" for another reference."""
    name, colon, _ = text.partition(":")
    return str(name) if colon and name in registry.names("weight_format") else ""


def is_of_weights(key: str, value: Any) -> bool:
    """Whether a key of a network is about its weights: a new head, or the blocks to take; other weights have none."""
    return key in ("blocks", "part") or (key == "head" and value == "new")


def check_none_of_weights(options: Mapping[str, Any], path: str) -> None:
    """Raises `UserError` for a key about weights in the entry of a network that has none.

    Args:
        options: values by key.
        path: the key of the network, for messages.
    """
    for key, value in options.items():
        if is_of_weights(key, value) and value:
            raise UserError(
                f"{path}.{key} must be left out without weights, which it is about, got {value!r}. Set {path}.weights,"
                " or remove it"
            )


def complete(raw: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Returns the entry of a network with the model of its weights and its fields, unless it names a model.

    A new head has the classes of the data, and a network of some of the blocks as many layers. If the weights are of a
    part of the network, that part is described by them unless it is set.

    Args:
        raw: values by key.
        path: the key of the network, for messages.
    """
    weights, part = raw.get("weights"), str(raw.get("part", ""))
    if isinstance(weights, str) and "model" in raw and part and part not in raw and format_of(weights):
        keys = describe(weights, f"{path}.weights")
        return dict(raw) | {part: {key: value for key, value in keys.items() if key != "classes"}}
    if not isinstance(weights, str) or "model" in raw:
        return dict(raw)
    if not format_of(weights):
        _check_prefix(weights, f"{path}.weights")
        return dict(raw)
    keys = describe(weights, f"{path}.weights")
    if (blocks := parse(tuple[int, ...], raw.get("blocks", ()), f"{path}.blocks")) and "layers" in keys:
        keys["layers"] = len(blocks)
    return {key: value for key, value in keys.items() if key != "classes" or raw.get("head") != "new"} | dict(raw)


def _check_prefix(text: str, key: str) -> None:
    """Raises `UserError` for the name of no format before a colon, unless a folder is called that."""
    name, colon, _ = text.partition(":")
    if colon and name.isalpha() and name != "stage" and not input_path(key, text).exists():
        names = (*registry.names("weight_format"), "stage")
        raise unknown(f"the format of {key}", name, names, "one that can be read")


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
        return pretrained.describe(name, input_path(key, path), text)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
