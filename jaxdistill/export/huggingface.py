"""Folders that transformers loads: `config.json`, `model.safetensors`, the tokenizer, the images, a model card."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill.errors import UserError
from jaxdistill.export.exported import Exported
from jaxdistill.export.model_card import write_card
from jaxdistill.export.reload import Report, compare, missing_modules, predict, run_program
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.pretrained.huggingface import CONFIG, WEIGHTS, open_folder
from jaxdistill.pretrained.images import FILE as IMAGES
from jaxdistill.pretrained.images import INTERPOLATIONS
from jaxdistill.pretrained.tensors import write_safetensors
from jaxdistill.pretrained.writer import find_family, make_tensors

FILE = WEIGHTS
MODULES = ("transformers", "torch")

NAMES = {"tokens": "input_ids", "token_mask": "attention_mask", "segment": "token_type_ids", "image": "pixel_values"}
"""Inputs there by their names here."""

PROGRAM = """\
import json
import sys
import numpy as np
import torch
import transformers

with open(sys.argv[1] + "/config.json") as file:
    network = getattr(transformers, json.load(file)["architectures"][0]).from_pretrained(sys.argv[1]).eval()
with np.load(sys.argv[2]) as inputs, torch.no_grad():  # input_ids and attention_mask, or pixel_values
    outputs = network(**{name: torch.from_numpy(x) for name, x in inputs.items()})
np.savez(sys.argv[3], outputs=outputs.logits.numpy())
"""


def check(exported: Exported) -> None:
    """Raises `UserError` for a network that the format does not have."""
    find_family(exported.model, exported.module)
    if exported.bits:
        raise UserError(
            f"export.bits must be 0 for the format 'huggingface', whose tensors are float32, got {exported.bits}. Take"
            " 'safetensors', 'stablehlo' or 'onnx'"
        )
    for name, view in exported.predictor.source.views.entries if exported.predictor else ():
        if view.layer_change:
            raise UserError(
                f"compress.{name}.{view.layer_change} must be left out for the format 'huggingface', whose layers"
                f" compute as the model declares, got a {type(view).__name__.lower()} that changes them. Take"
                " 'safetensors', 'stablehlo' or 'onnx'"
            )


def write(folder: pathlib.Path, exported: Exported) -> None:
    """Writes the files into a folder.

    Raises:
        UserError: for a network that the format does not have.
    """
    config, correspondence = find_family(exported.model, exported.module)
    variables = jax.tree.map(np.asarray, dict(exported.variables))
    tensors = make_tensors(correspondence, variables)
    channels = {"num_channels": exported.image_spec.shape[-1]} if exported.image_spec else {}
    _write_json(folder / CONFIG, config | channels | _labels(exported) | {"torch_dtype": "float32"})
    write_safetensors(folder / WEIGHTS, tensors)
    if exported.image_spec is not None:
        _write_json(folder / IMAGES, _image_processing(exported.image_spec))
    (folder / "README.md").write_text(write_card(exported), encoding="utf-8")


def verify(folder: pathlib.Path, exported: Exported, examples: Mapping[str, np.ndarray]) -> Report:
    """Compares tensors bit by bit, and predictions in a process that has transformers, if it is installed.

    Raises:
        UserError: if a tensor differs.
    """
    _check_bits(folder, jax.tree.map(np.asarray, dict(exported.variables)))
    if missing := missing_modules(MODULES):
        return Report(f"{' and '.join(missing)} not installed; tensors are equal bit by bit")
    predictor = exported.predictor
    assert predictor is not None
    inputs = {NAMES[name]: x for name, x in examples.items()}
    if "image" in examples:
        prepared = jax.jit(predictor.prepared)(dict(examples))
        inputs = {NAMES["image"]: np.ascontiguousarray(np.moveaxis(np.asarray(prepared), -1, 1))}
    logits = run_program(PROGRAM, folder, inputs)["outputs"]
    expected = predict(predictor, exported.variables, examples)
    actual = np.asarray(jax.nn.softmax(logits[..., [*predictor.source.class_order] or slice(None)]))
    return compare(expected, actual, examples, program="transformers", predictions=predictor.signature.predictions)


def open_function(folder: pathlib.Path, raw: Mapping[str, Any]) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Raises `UserError`: such folders are read by transformers, and by configs."""
    raise UserError(
        f"{folder} must be an export of another format to be loaded, got 'huggingface'. Load it by transformers, or as"
        f" networks.NAME.weights='hf:{folder}'"
    )


def _check_bits(folder: pathlib.Path, variables: Any) -> None:
    """Reads a folder again, and raises `UserError` unless it has the same bits."""
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
    again = open_folder(folder, str(folder)).read(structs)
    same = jax.tree.map(lambda x, y: x.tobytes() == np.asarray(y).tobytes(), variables, again)
    if not all(jax.tree.leaves(same)):
        raise UserError(
            f"{folder} must have the network's numbers, got others. The disk may be damaged; write elsewhere"
        )


def _labels(exported: Exported) -> dict[str, Any]:
    classes = getattr(exported.module, "classes", 0)
    if getattr(exported.module, "predicts", "class") != "class" or not classes:
        return {}
    names = exported.class_names or tuple(f"LABEL_{number}" for number in range(classes))
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _image_processing(spec: ImageSpec) -> dict[str, Any]:
    height, width, _ = spec.shape
    numbers = {name: number for number, name in INTERPOLATIONS.items()}
    crop = {"do_center_crop": True, "crop_size": {"height": height, "width": width}} if spec.shorter_side else {}
    size = {"shortest_edge": spec.shorter_side} if spec.shorter_side else {"height": height, "width": width}
    return {
        "do_resize": True,
        "size": size,
        **crop,
        "resample": numbers[spec.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
