"""ONNX files, by jax2onnx, for a batch of any size: the same function and weights as `stablehlo` has."""

import contextlib
import importlib
import io
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import export

from jaxdistill.errors import UserError
from jaxdistill.export.exported import Exported
from jaxdistill.export.function import make_function, write_signature
from jaxdistill.export.reload import Report, compare, missing_modules, predict, run_program
from jaxdistill.export.weights import variables_of

FILE = "model.onnx"
OPSET = 21
"""Of March 2024: onnxruntime 1.18 and later read it."""

MODULES = ("jax2onnx", "onnxruntime")

PROGRAM = """\
import sys
import numpy as np
import onnxruntime

network = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
with np.load(sys.argv[2]) as inputs:  # uint8 images, or tokens and their mask, or features: by name
    (outputs,) = network.run(None, dict(inputs))
np.savez(sys.argv[3], outputs=outputs)  # probabilities [n, classes]
"""


def check(exported: Exported) -> None:
    """Raises `UserError` if the converter or the runtime is not installed."""
    if missing := missing_modules(MODULES):
        raise UserError(
            f"format 'onnx' must have {' and '.join(MODULES)}, got none of {missing}. pip install 'jaxdistill[onnx]'"
        )


def write(folder: pathlib.Path, exported: Exported) -> None:
    """Writes the model and the description of its inputs into a folder.

    Raises:
        UserError: for an operation that the converter does not have, with its name.
    """
    assert exported.predictor is not None
    (batch,) = export.symbolic_shape("B")
    function, structs = make_function(exported, batch)
    signature = exported.predictor.signature
    jax.eval_shape(function, *(jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in structs))  # fills caches
    with _quiet(), jax.numpy_rank_promotion("allow"):  # its layers add vectors to matrices
        convert = importlib.import_module("jax2onnx").to_onnx
        try:
            model = convert(
                function, structs, opset=OPSET, input_names=[*signature.inputs], output_names=[signature.output]
            )
        except Exception as error:  # plugins of the converter raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(
                f"{exported.model} must consist of operations that jax2onnx converts, got {reason!r}. Take the format"
                " 'stablehlo'"
            ) from error
    (folder / FILE).write_bytes(model.SerializeToString(deterministic=True))
    write_signature(folder, exported)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the converter, which prints each layer, and logs the plugins of packages that are not installed."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def verify(folder: pathlib.Path, exported: Exported, examples: Mapping[str, np.ndarray]) -> Report:
    """Compares the file, in a process that has onnxruntime alone, with the network."""
    assert exported.predictor is not None
    expected = predict(exported.predictor, variables_of(exported.weights), examples)
    outputs = run_program(PROGRAM, folder, examples)["outputs"]
    return compare(
        expected, outputs, examples, program="onnxruntime", predictions=exported.predictor.signature.predictions
    )


def open_function(folder: pathlib.Path, raw: Mapping[str, Any]) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Returns the function of a file, from arrays by name to its output."""
    if missing_modules(MODULES[1:]):
        raise UserError(f"{folder / FILE} must be run by onnxruntime, got none. pip install 'jaxdistill[onnx]'")
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(None, dict(arrays))[0]
