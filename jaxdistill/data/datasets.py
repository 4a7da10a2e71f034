"""Where examples come from: embedded sets, a file of arrays or of text, noise, or a set of TFDS, images or a text."""

import importlib.util
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdistill.data import images, texts, tfds
from jaxdistill.data.dataset import EMBEDDED, Arrays, Dataset, check_finite, check_whole, class_names
from jaxdistill.data.noise import Noise
from jaxdistill.errors import UserError


def digits() -> Dataset:
    """The handwritten digits that scikit-learn carries: 1,797 scans of 8 x 8 pixels in 17 grey levels.

    Split once and for all into 1,077 training, 360 validation and 360 test examples by NumPy's legacy
    generator, whose stream is frozen across versions.
    """
    # The file alone: importing the package that carries it takes longer than a start from compiled programs.
    folder = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent
    rows = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    image = np.round(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    label = rows[:, -1].astype(np.int32)
    order = np.random.RandomState(0).permutation(len(label))
    parts = {"train": order[:1077], "validation": order[1077:1437], "test": order[1437:]}
    splits = {role: Arrays(image[part], label[part]) for role, part in parts.items()}
    return Dataset(splits, tuple(map(str, range(10))), image.shape[1:])


def npz(path: str) -> Dataset:
    """An `.npz` with `train_image`, `train_label`, and the same for `validation` and `test`; or of `texts.arrays`.

    Images are uint8 or float `[n, height, width]` or `[n, height, width, channels]`, labels integers `[n]`;
    `class_names` is optional.

    Raises:
        UserError: for a missing or foreign file, shapes that do not fit, labels that are not whole numbers
            from 0 on, and images that are not finite.
    """
    if not path or not pathlib.Path(path).is_file():
        raise UserError(
            f"no file {path!r}; data.path names an .npz with train_image or train_tokens, train_label, test_image, ..."
        )
    try:
        arrays = dict(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not an .npz of plain arrays: {error}") from error
    if "train_tokens" in arrays:
        return texts.arrays(path, arrays)
    roles = [key.removesuffix("_image") for key in arrays if key.endswith("_image")]
    if "train" not in roles:
        raise UserError(f"{path} has no array 'train_image' or 'train_tokens'; there are {sorted(arrays)}")
    splits = {role: _checked(path, role, arrays) for role in roles}
    names = class_names(path, arrays, {role: split.label for role, split in splits.items()})
    shapes = {role: split.image.shape[1:] for role, split in splits.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"the splits of {path} have images of different shapes: {shapes}")
    return Dataset(splits, names, shapes["train"])


def _checked(path: str, role: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    if f"{role}_label" not in arrays:
        raise UserError(f"{path} has '{role}_image' and no '{role}_label'; there are {sorted(arrays)}")
    image, label = arrays[f"{role}_image"], arrays[f"{role}_label"]
    image = image[..., None] if image.ndim == 3 else image
    if image.ndim != 4 or label.shape != image.shape[:1] or not image.size:
        raise UserError(
            f"{path}: '{role}_image' has shape {image.shape} and '{role}_label' {label.shape}; expected"
            " [n, height, width(, channels)] and [n], n > 0"
        )
    check_whole(f"{path}: '{role}_label'", label, "labels")
    if image.dtype != np.uint8:
        if not np.issubdtype(image.dtype, np.floating):
            raise UserError(f"{path}: '{role}_image' is {image.dtype}; images are uint8, or floats in [0, 1]")
        image = image.astype(np.float32)
        check_finite(image, np.arange(len(image)), f"{path}: '{role}_image'")
        if image.min() < 0 or image.max() > 1:
            raise UserError(f"{path}: '{role}_image' is from {image.min()} to {image.max()}; floats are in [0, 1]")
    return Arrays(image, label.astype(np.int32))


def _noise(size: int, channels: int, *, classes: int, count: int, kind: str, seed: int) -> Dataset:
    """Squares of noise as a training split; `classes` are those that the teacher knows.

    Raises:
        UserError: where the size or the classes are not told, which noise cannot tell.
    """
    for key, value in {"data.size": size, "data.channels": channels, "data.noise.classes": classes}.items():
        if not value:
            raise UserError(
                f"noise has no {key.rpartition('.')[2]} of its own; set {key} to the teacher's, or mix noise into the"
                " teacher's data: data.mix.noise=dict(name='noise'), with data.weight=0 for noise alone"
            )
    shape = (size, size, channels)
    return Dataset({"train": Noise(shape, count, kind, seed)}, tuple(map(str, range(classes))), shape)


def load(
    name: str,
    *,
    data_dir: str = "",
    path: str = "",
    splits: Mapping[str, str] | None = None,
    size: int = 0,
    channels: int = 0,
    noise: Mapping[str, Any] | None = None,
    length: int = 0,
) -> Dataset:
    """Opens a dataset by name: one of `EMBEDDED` (`npz` and `text` from `path`), or any other name from TFDS.

    Args:
        splits: role -> split of a TFDS dataset, or part of a text; the others have their own.
        size: the side of the square that images are resized to; 0 leaves them as they are.
        channels: 1 or 3, where images have the other; 0 leaves them.
        noise: `classes`, `count`, `kind` and `seed` of "noise".
        length: tokens of a window of a text.

    Raises:
        UserError: for names, folders and splits that are not there, with what is.
    """
    if name not in EMBEDDED:
        return tfds.load(name, data_dir, splits, size, channels, length)
    if name == "text":
        return texts.file(path, length, splits)
    if splits:
        raise UserError(f"data.splits are for datasets of TFDS and for 'text'; {name!r} has its own, leave them out")
    if name == "noise":
        return _noise(size, channels, **(noise or {}))
    if name == "arithmetic":
        return texts.arithmetic(length)
    dataset = digits() if name == "digits" else npz(path)
    if dataset.vocabulary:
        return dataset
    found = {role: images.reshape(split, size, channels) for role, split in dataset.splits.items()}
    return Dataset(found, dataset.class_names, found["train"].image.shape[1:])
