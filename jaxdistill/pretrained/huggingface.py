"""Folders of Hugging Face: `config.json`, one or several safetensors files, image processing and tokenizer."""

import contextlib
import functools
import importlib
import json
import pathlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from jaxdistill.data import tokenizers
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks.meaning import Meaning
from jaxdistill.pretrained import families
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.images import read_image_spec
from jaxdistill.pretrained.pickles import refuse_pickles
from jaxdistill.pretrained.pretrained import Pretrained
from jaxdistill.pretrained.tensors import DOWNLOAD_AGAIN, Tensor, read_safetensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DOWNLOAD_FOLDER = "Download the whole folder."


def open_folder(folder: pathlib.Path, reference: str) -> Pretrained:
    """Returns the weights in a folder; reads its headers alone.

    Args:
        folder: as `save_pretrained` writes it.
        reference: as the config names it, for messages.

    Raises:
        UserError: for missing files, an unknown architecture and settings that the model does not have.
    """
    if not folder.is_dir():
        raise UserError(f"weights must be a folder of Hugging Face, got {reference!r}. There is no folder {folder}")
    if not (folder / CONFIG).is_file():
        raise UserError(f"weights={reference!r} must have a {CONFIG}, got {_contents(folder)}. {DOWNLOAD_FOLDER}")
    config = ConfigJson.read(folder / CONFIG)
    family = _family(config)
    paths, tensors = _read_tensors(folder, reference)
    with _readable(config):
        correspondence, names = family.from_config(config, [*tensors]), config.class_names
        _check_heads(config, correspondence.fields)
    size = int(correspondence.fields.get("size", config.get("image_size", 224)))
    is_image = "vocabulary" not in correspondence.fields and "vocab_size" not in config
    image_spec = read_image_spec(folder, size, config.get("num_channels", 3)) if is_image else None
    meaning = Meaning(
        names if len(names) == correspondence.fields.get("classes") else (), _tokenizer(folder, reference)
    )
    return Pretrained(reference, paths, tensors, correspondence, image_spec=image_spec, meaning=meaning)


def _check_heads(config: ConfigJson, fields: Mapping[str, Any]) -> None:
    """Raises `UserError` for heads that do not divide the width, or heads of keys that do not divide the heads."""
    width, heads, of_keys = (fields.get(name, 0) for name in ("width", "heads", "key_heads"))
    if heads and not fields.get("head_width") and width % heads:
        raise UserError(f"the width of {config.path} must be a multiple of its {heads} heads, got {width}. Correct it")
    if of_keys and heads % of_keys:
        raise UserError(
            f"the heads of {config.path} must be a multiple of its {of_keys} heads of keys, got {heads}. Correct it"
        )


def _tokenizer(folder: pathlib.Path, reference: str) -> str:
    """Returns the identity of a folder's tokenizer; "" without one."""
    files = ("tokenizer.json", "vocab.txt", "merges.txt")
    has_tokenizer = any((folder / name).is_file() for name in files)
    return tokenizers.identity(str(folder), f"the tokenizer of weights={reference!r}") if has_tokenizer else ""


@functools.cache
def families_by_type() -> dict[str, ModuleType]:
    """Returns the families that Hugging Face has, by each `model_type`."""
    modules = [
        importlib.import_module(f"{families.__name__}.{info.name}") for info in pkgutil.iter_modules(families.__path__)
    ]
    return {name: module for module in modules for name in getattr(module, "MODEL_TYPES", ())}


@contextlib.contextmanager
def _readable(config: ConfigJson) -> Iterator[None]:
    """Raises `UserError` for keys whose values are of another type or of an impossible size."""
    try:
        yield
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{config.path} must have the keys of a {config['model_type']!r}, got a value of another type or size"
            f" ({error}). Download it again, or correct it"
        ) from error


def _family(config: ConfigJson) -> ModuleType:
    kind, by_type = str(config.get("model_type", "")), families_by_type()
    if kind not in by_type:
        raise unknown(f"model_type of {config.path}", kind, by_type, "a family of networks that can be read")
    return by_type[kind]


def _read_tensors(folder: pathlib.Path, reference: str) -> tuple[tuple[pathlib.Path, ...], dict[str, Tensor]]:
    """Returns the files and the tensors of a folder."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,), read_safetensors(folder / WEIGHTS)
    if not (folder / INDEX).is_file():
        refuse_pickles(folder, reference)
        raise UserError(
            f"weights={reference!r} must have {WEIGHTS} or {INDEX}, got {_contents(folder)}. {DOWNLOAD_FOLDER}"
        )
    try:
        places = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(place) for place in places.values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{folder / INDEX} must be JSON with a weight_map, got {error!r}. {DOWNLOAD_AGAIN}") from error
    if not names:
        raise UserError(f"{folder / INDEX} must name files of tensors, got an empty weight_map. {DOWNLOAD_AGAIN}")
    missing = [name for name in names if pathlib.PurePath(name).name != name or not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"weights={reference!r} must have the files of {INDEX}, got none of {missing}. {DOWNLOAD_FOLDER}"
        )
    tensors: dict[str, Tensor] = {}
    for name in names:
        tensors |= {key: x for key, x in read_safetensors(folder / name).items() if places.get(key) == name}
    absent = [name for name in places if name not in tensors]
    if absent:
        raise UserError(f"{folder / INDEX} must name tensors of the files, got {absent[:4]}. {DOWNLOAD_AGAIN}")
    return tuple(folder / name for name in names), tensors


def _contents(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())[:20]
