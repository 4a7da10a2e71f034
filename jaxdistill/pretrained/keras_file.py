"""HDF5 files of Keras Applications, by the names of their layers.

`model.save("x.h5")` and the published files have a group for each layer with the names of its weights in order,
`model.save_weights("x.weights.h5")` a group `layers/CLASS/vars` with the name of the layer.
"""

import importlib
import pathlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.pretrained import families
from jaxdistill.pretrained.pretrained import Pretrained
from jaxdistill.pretrained.tensors import DOWNLOAD_AGAIN, DTYPES, Tensor

WEIGHTS = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
"""Weights of a layer in Keras's order, by their number: old files have other names for them."""

IMAGES = ImageSpec((224, 224, 3), (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3)
"""Images of VGG and ResNet: means of ImageNet are subtracted, of pixels from 0 to 255 (mode "caffe")."""

HINT = "Write the file with model.save('NEW.h5')."


def open_file(path: pathlib.Path, reference: str) -> Pretrained:
    """Returns the weights in an HDF5 file; reads its names and shapes alone.

    Args:
        path: of the file.
        reference: as the config names it, for messages.

    Raises:
        UserError: for another file, without `h5py`, and for names of layers that are no family's.
    """
    if not path.is_file():
        raise UserError(f"weights must be an HDF5 file of Keras, got {reference!r}. There is no file {path}")
    if path.suffix == ".keras":
        raise UserError(f"weights={reference!r} must be an HDF5 file, got an archive of Keras 3. {HINT}")
    tensors = _read_tensors(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    names = [info.name for info in pkgutil.iter_modules(families.__path__)]
    modules = {name: importlib.import_module(f"{families.__name__}.{name}") for name in names}
    readers = {name: module.from_keras for name, module in modules.items() if hasattr(module, "from_keras")}
    for reader in readers.values():
        correspondence = reader(shapes)
        if correspondence is not None:
            return Pretrained(reference, (path,), tensors, correspondence, image_spec=IMAGES)
    layers = sorted({name.partition(".")[0] for name in shapes})
    raise UserError(
        f"weights={reference!r} must have the layers of Keras Applications of one of {sorted(readers)}, got"
        f" {layers[:6]}. Rename the layers, or write a safetensors file with the names of torchvision"
    )


def _read_tensors(path: pathlib.Path) -> dict[str, Tensor]:
    """Returns the weights `LAYER.kernel` and so on of a file."""
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise UserError(f"{path} must be read by h5py, got {error}. pip install 'jaxdistill[keras]'") from error
    try:
        with h5py.File(path) as file:
            layers = dict(_layers(file))
            return {
                f"{layer}.{weight}": _tensor(path, dataset)
                for layer, datasets in layers.items()
                for weight, dataset in zip(WEIGHTS[len(datasets)], datasets, strict=True)
            }
    except (OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} must be a whole HDF5 file of Keras, got {reason}. {DOWNLOAD_AGAIN}") from error


def _layers(file: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yields the name and the datasets of each layer with weights that a convolutional network has."""
    root = file.get("model_weights", file)
    for name, group in root.items():
        if "weight_names" in group.attrs:
            keys = [key.decode() if isinstance(key, bytes) else str(key) for key in group.attrs["weight_names"]]
            if len(keys) in WEIGHTS:
                yield name, [group[key] for key in keys]
    for group in file["layers"].values() if "layers" in file else ():
        variables = group.get("vars", {})
        if len(variables) in WEIGHTS and "name" in variables.attrs:
            keys = sorted(variables, key=int)
            yield str(variables.attrs["name"]), [variables[key] for key in keys]


def _tensor(path: pathlib.Path, dataset: Any) -> Tensor:
    """Returns a dataset, which is mapped into memory if it lies in the file as one uncompressed piece."""
    dtype, shape, key, place = dataset.dtype, dataset.shape, dataset.name, dataset.id.get_offset()
    codes = {np.dtype(value): code for code, value in DTYPES.items()}

    def open_tensor() -> np.ndarray:
        if place is not None:
            return np.memmap(path, dtype, "r", offset=place, shape=shape)
        with importlib.import_module("h5py").File(path) as file:
            return file[key][()]

    return Tensor(path, shape, codes.get(dtype, str(dtype)), open_tensor)
