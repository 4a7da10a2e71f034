"""Folders of weights: `model.safetensors` with flat names, and `config.json` with model, fields and preprocessing.

Each array has the smallest form that holds it exactly (`export.exact_form`): integers in their own bits, a mask with
the values that are not zero, indices of a table. `packed` of the config has bits and shape of those that are not plain.
`jaxdistill.load` makes the network of it again.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill.compress.packing import StoredIntegers
from jaxdistill.errors import UserError
from jaxdistill.export import exact_form
from jaxdistill.export.exported import Exported
from jaxdistill.export.function import CONFIG
from jaxdistill.export.predictor import Predictor
from jaxdistill.export.reload import Report, compare, predict, run_program
from jaxdistill.export.weights import variables_of
from jaxdistill.pretrained.tensors import read_safetensors, write_safetensors
from jaxdistill.runtime import files

FILE = "model.safetensors"
PROGRAM = """\
import json
import sys
import numpy as np

with open(sys.argv[1] + "/model.safetensors", "rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    numbers = file.read()
config = json.load(open(sys.argv[1] + "/config.json"))
kinds = {"F32": "f4", "BF16": "u2", "I32": "i4", "U32": "u4", "I8": "i1", "U8": "u1", "BOOL": "?"}
arrays = {}
for name in header.keys() - {"__metadata__"}:
    part = numbers[slice(*header[name]["data_offsets"])]
    arrays[name] = np.frombuffer(part, kinds[header[name]["dtype"]]).reshape(header[name]["shape"])
for name, entry in config["packed"].items():
    mask, table, scale, zero = (arrays.pop(name + end, None) for end in (".mask", ".table", ".scale", ".zero"))
    values, bits, count = arrays[name], entry["bits"], int(np.prod(entry["shape"]))
    kept = np.ones(count, "?") if mask is None else np.unpackbits(mask, count=count, bitorder="little") > 0
    if bits < 32:  # the lowest bit first; without a table the highest one is negative
        each = np.unpackbits(values.view("u1"), count=bits * kept.sum(), bitorder="little").reshape(-1, bits)
        values = each @ np.array([2**k for k in range(bits - 1)] + [2 ** (bits - 1) * (-1 if table is None else 1)])
    whole = np.zeros(count, "f4")
    whole[kept] = values.reshape(-1) if table is None else table[values]
    zero = 0 if zero is None else zero.astype("f4")
    arrays[name] = (whole.reshape(entry["shape"]) - zero) * (1 if scale is None else scale)
np.savez(sys.argv[3], **arrays)
"""


def check(exported: Exported) -> None:
    """Raises `UserError` for a model with fields that JSON does not have."""
    assert exported.predictor is not None
    exported.predictor.to_json()


def write(folder: pathlib.Path, exported: Exported) -> None:
    """Writes the weights and the description of the network into a folder."""
    assert exported.predictor is not None
    tensors: dict[str, np.ndarray] = {}
    packed: dict[str, Any] = {}
    for name, x in exported.weights.items():
        form = exact_form.encode(x)
        tensors |= {name + ending: array for ending, array in form.arrays.items()}
        if not form.is_plain:
            packed[name] = exact_form.describe(form)
    write_safetensors(folder / FILE, tensors)
    described = exported.predictor.to_json() | {"bits": exported.bits, "packed": packed}
    files.write_json(folder / CONFIG, described)


def verify(folder: pathlib.Path, exported: Exported, examples: Mapping[str, np.ndarray]) -> Report:
    """Compares the arrays, as a process that has numpy alone reads them, bit by bit, and the predictions.

    Raises:
        UserError: if an array differs.
    """
    assert exported.predictor is not None
    variables = variables_of(exported.weights)
    expected_arrays = {
        name: x.dequantize() if isinstance(x, StoredIntegers) else x for name, x in exported.weights.items()
    }
    arrays = run_program(PROGRAM, folder, {})
    for name in sorted({*expected_arrays, *arrays}):
        if name not in arrays or name not in expected_arrays or not _same(arrays[name], expected_arrays[name]):
            raise UserError(
                f"{folder / FILE} must have the network's numbers, got others in {name!r}. The disk may be damaged;"
                " write elsewhere"
            )
    expected = predict(exported.predictor, variables, examples)
    again, variables = open_predictor(folder)
    actual = predict(again, variables, examples)
    return compare(
        expected, actual, examples, program="numpy, bit by bit, and jaxdistill", predictions=again.signature.predictions
    )


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes()


def open_predictor(folder: pathlib.Path) -> tuple[Predictor, dict[str, Any]]:
    """Returns the network of a folder, and its float32 variables on the host."""
    raw = files.read_json(folder / CONFIG, dict)
    tensors = {name: np.asarray(tensor.open()) for name, tensor in read_safetensors(folder / FILE).items()}
    forms = {name: exact_form.parse(name, entry, tensors) for name, entry in raw["packed"].items()}
    belong = {name + ending for name, form in forms.items() for ending in form.arrays}
    arrays = {name: exact_form.decode(form) for name, form in forms.items()}
    arrays |= {name: x for name, x in tensors.items() if name not in belong}
    return Predictor.parse(raw, folder), variables_of(arrays)


def open_function(folder: pathlib.Path, raw: Mapping[str, Any]) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Returns the function of a folder, from arrays by name to logits."""
    predictor, variables = open_predictor(folder)
    function = jax.jit(predictor.logits)
    return lambda arrays: np.asarray(function(variables, dict(arrays)))
