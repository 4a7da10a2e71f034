"""Folders that transformers loads: `config.json`, `model.safetensors`, the tokenizer, the images, a model card."""

import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from jaxdistill.errors import UserError
from jaxdistill.export.exported import Exported
from jaxdistill.export.model_card import write_card
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.pretrained.huggingface import CONFIG, WEIGHTS, open_folder
from jaxdistill.pretrained.images import FILE, INTERPOLATIONS
from jaxdistill.pretrained.tensors import write_safetensors
from jaxdistill.pretrained.writer import find_family, make_tensors
from jaxdistill.runtime.files import part_of

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def check(exported: Exported) -> None:
    """Raises `UserError` for a network that the format does not have."""
    find_family(exported.model, exported.module)


def write(folder: pathlib.Path, exported: Exported) -> list[str]:
    """Writes a folder, which appears whole or not at all, and compares its tensors with the network bit by bit.

    Args:
        folder: that must not exist, unless it has the same files: a launch that was killed may have written it.
        exported: the network.

    Returns:
        Lines for the log.

    Raises:
        UserError: for a network that the format does not have, and a folder of other files.
    """
    config, correspondence = find_family(exported.model, exported.module)
    variables = jax.tree.map(np.asarray, dict(exported.variables))
    tensors = make_tensors(correspondence, variables)
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    channels = {"num_channels": exported.image_spec.shape[-1]} if exported.image_spec else {}
    _write_json(part / CONFIG, config | channels | _labels(exported) | {"torch_dtype": "float32"})
    write_safetensors(part / WEIGHTS, tensors)
    _copy_tokenizer(exported, part)
    if exported.image_spec is not None:
        _write_json(part / FILE, _image_processing(exported.image_spec))
    (part / "README.md").write_text(write_card(exported), encoding="utf-8")
    _verify(part, variables)
    if not folder.exists():
        part.rename(folder)
    elif _contents(folder) == _contents(part):
        shutil.rmtree(part)
    else:
        shutil.rmtree(part)
        raise UserError(f"the folder of an export must not exist, got {folder}. Remove it, or name another")
    size = sum(path.stat().st_size for path in folder.iterdir())
    return [f"{folder}: {len(tensors)} tensors, equal to the network's bit by bit; {size:,} bytes"]


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


def _verify(folder: pathlib.Path, variables: Any) -> None:
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


def _copy_tokenizer(exported: Exported, folder: pathlib.Path) -> None:
    source = exported.tokenizer_path
    if source is None:
        return
    files = [source] if source.is_file() else [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    for file in files:
        shutil.copyfile(file, folder / ("tokenizer.json" if file == source else file.name))


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
