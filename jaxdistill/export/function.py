"""A network with its weights as constants: what formats of compiled programs hold."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jaxdistill.export.exported import Exported
from jaxdistill.export.weights import traced_variables
from jaxdistill.runtime import files

CONFIG = "config.json"
"""The file with the inputs of an exported network, and, if it holds weights alone, with its model."""


def make_function(exported: Exported, batch: Any) -> tuple[Callable[..., jax.Array], list[jax.ShapeDtypeStruct]]:
    """Returns `(arrays in order) -> outputs`, and the shapes of its arguments.

    Args:
        exported: the network.
        batch: the size of a batch, a symbol or a number.
    """
    predictor, weights = exported.predictor, exported.weights
    assert predictor is not None
    names = [*predictor.signature.inputs]

    def function(*arrays: jax.Array) -> jax.Array:
        return predictor.outputs(traced_variables(weights), dict(zip(names, arrays, strict=True)))

    structs = [jax.ShapeDtypeStruct((batch, *x.shape), x.dtype) for x in predictor.signature.inputs.values()]
    return function, structs


def write_signature(folder: pathlib.Path, exported: Exported) -> None:
    """Writes the names, shapes and meaning of the inputs and of the output."""
    assert exported.predictor is not None
    described = {"network": exported.name, "model": exported.model, "bits": exported.bits}
    files.write_json(folder / CONFIG, described | exported.predictor.signature.to_json())
