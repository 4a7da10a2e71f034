"""The tensors of a network in the format of another library."""

import dataclasses
import importlib
import pathlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdistill.core import path_name
from jaxdistill.errors import UserError
from jaxdistill.pretrained import families
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.correspondence import Correspondence

OTHERS = ("parent", "name", "dtype", "remat", "scan", "dense", "classes")
"""Fields of a model that a family's config does not have: how it computes, and its classes, which have names."""

DERIVED = ("hidden", "head_width", "key_heads")
"""Sizes that follow from others where they are 0."""


def find_family(model: str, module: nn.Module) -> tuple[dict[str, Any], Correspondence]:
    """Returns the `config.json` of a network, and the correspondence of its arrays with tensors.

    A family fits if its config describes the same network when it is read again.

    Args:
        model: its name.
        module: the network.

    Raises:
        UserError: if no family of Hugging Face has such a network.
    """
    fields = {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}
    compared = [key for key in fields if key not in OTHERS]
    defaults = {field.name: field.default for field in dataclasses.fields(module)}
    reasons = []
    for name, family in _writers().items():
        try:
            config = family.to_config(fields)
            correspondence = family.from_config(ConfigJson(pathlib.Path("config.json"), config), ())
        except KeyError:  # a field of another model, or a value that the family has no name for
            continue
        except UserError as error:
            reasons.append(f"{name}: {error}")
            continue
        read = {**{key: defaults[key] for key in fields}, **correspondence.fields}
        left = [key for key in compared if read[key] != fields[key] and (fields[key] or key not in DERIVED)]
        differing = [f"{key}={fields[key]!r}" for key in left]
        if correspondence.model == model and not differing:
            return config, correspondence
        if correspondence.model == model:
            reasons.append(f"{name} has no {', '.join(differing)}")
    raise UserError(
        f"a network for a Hugging Face folder must be of one of the families {[*_writers()]}, got the model {model!r}"
        f" ({'; '.join(reasons) or 'no family has this model'}). Take the"
        " format 'safetensors', 'stablehlo' or 'onnx', or train a network of one of them"
    )


def _writers() -> dict[str, ModuleType]:
    names = [info.name for info in pkgutil.iter_modules(families.__path__)]
    modules = {name: importlib.import_module(f"{families.__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "to_config")}


def make_tensors(correspondence: Correspondence, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the tensors of a network's variables, each with the bits that it has here.

    Args:
        correspondence: of the network.
        variables: `{collection: tree}`; scanned layers have a first axis over the blocks.

    Raises:
        UserError: for an array that has no tensor.
    """
    arrays = _unstacked(variables)
    parts: dict[str, list[tuple[Any, np.ndarray]]] = {}
    for entry in correspondence.entries:
        if entry.name in arrays:
            parts.setdefault(entry.tensor, []).append((entry, arrays.pop(entry.name)))
    if arrays:
        raise UserError(
            f"the format must have a tensor for each array of the network, got none for {sorted(arrays)[:6]}. Export it"
            " in another format"
        )
    return {name: _join(pairs) for name, pairs in parts.items()}


def _join(pairs: list[tuple[Any, np.ndarray]]) -> np.ndarray:
    whole = []
    for entry, array in sorted(pairs, key=lambda pair: pair[0].part):
        shape = entry.layout.tensor_shape(array.shape) or entry.shape
        whole.append(np.ascontiguousarray(entry.layout.to_tensor(array, shape)))
    return whole[0] if len(whole) == 1 else np.concatenate(whole, axis=pairs[0][0].axis)


def _unstacked(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays by name, those of scanned layers block by block."""
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables)):
        name, array = path_name(path).replace("/", "."), np.asarray(leaf)
        if ".blocks." in name:
            for index, part in enumerate(array):
                arrays[name.replace(".blocks.", f".block{index}.", 1)] = part
        else:
            arrays[name] = array
    return arrays
