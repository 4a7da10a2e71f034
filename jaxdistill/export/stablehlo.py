"""Compiled programs: StableHLO by `jax.export`, for a batch of any size, on CPU, GPU and TPU.

`model.stablehlo` holds the weights as constants, in few bits if these are set, and the preprocessing of images: uint8
images in, probabilities out. Texts are tokens and their mask; tables are features, with their transforms beside.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import export

from jaxdistill.errors import UserError
from jaxdistill.export.exported import Exported
from jaxdistill.export.function import make_function, write_signature
from jaxdistill.export.reload import Report, compare, predict, run_program
from jaxdistill.export.weights import variables_of

FILE = "model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")

PROGRAM = """\
import sys
import numpy as np
from jax import export

with open(sys.argv[1] + "/model.stablehlo", "rb") as file:
    network = export.deserialize(bytearray(file.read()))
with np.load(sys.argv[2]) as inputs:  # uint8 images, or tokens and their mask, or features: in the order of config.json
    outputs = network.call(*inputs.values())
np.savez(sys.argv[3], outputs=outputs)  # probabilities [n, classes]
"""


def check(exported: Exported) -> None:
    """Accepts every network."""


def write(folder: pathlib.Path, exported: Exported) -> None:
    """Writes the program and the description of its inputs into a folder.

    Raises:
        UserError: for a model that cannot be traced with a batch of unknown size.
    """
    (batch,) = export.symbolic_shape("batch")
    function, structs = make_function(exported, batch)
    try:
        with _without_paths():
            lowered = export.export(jax.jit(function), platforms=PLATFORMS)(*structs)
    except (TypeError, NotImplementedError, jax.errors.InconclusiveDimensionOperation) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{exported.model} must be traced with a batch of unknown size for {PLATFORMS}, got {reason!r}. Take the"
            " format 'safetensors'"
        ) from error
    (folder / FILE).write_bytes(lowered.serialize())
    write_signature(folder, exported)


@contextlib.contextmanager
def _without_paths() -> Iterator[None]:
    """Leaves the paths of source files out of programs, which then depend on the network alone."""
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def verify(folder: pathlib.Path, exported: Exported, examples: Mapping[str, np.ndarray]) -> Report:
    """Compares the program, in a process that has jax alone, with the network."""
    assert exported.predictor is not None
    expected = predict(exported.predictor, variables_of(exported.weights), examples)
    outputs = run_program(PROGRAM, folder, examples)["outputs"]
    return compare(expected, outputs, examples, program="jax", predictions=exported.predictor.signature.predictions)


def open_function(folder: pathlib.Path, raw: Mapping[str, Any]) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Returns the function of a program, from arrays by name to its output."""
    network = export.deserialize(bytearray((folder / FILE).read_bytes()))
    return lambda arrays: np.asarray(network.call(*arrays.values()))
