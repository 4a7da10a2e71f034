"""Where examples come from: the embedded digits, an `.npz`, or any image classification set of TFDS.

A split has a length, `take(indices)` and `labels()`; images are `[n, height, width, channels]`, uint8 as they
are stored (float32 where an `.npz` holds floats, taken to be in units of [0, 1]), labels int32 `[n]`.
"""

import dataclasses
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.errors import UserError, unknown

CHUNK = 256
"""Examples decoded at once: TFDS reads groups about twice as fast as single examples."""


class Split(Protocol):
    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `{"image": [n, height, width, channels], "label": int32 [n]}`."""
        ...

    def labels(self) -> np.ndarray:
        """Returns every label, int32 `[len(self)]`, without decoding an image."""
        ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Splits by role (`train`, `validation`, `test`) and what holds for all of them."""

    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def split(self, role: str) -> Split:
        if role not in self.splits:
            raise unknown("split", role, self.splits)
        return self.splits[role]


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A split held in memory."""

    image: np.ndarray
    label: np.ndarray

    def __len__(self):
        return len(self.label)

    def take(self, indices):
        return {"image": self.image[indices], "label": self.label[indices]}

    def labels(self):
        return self.label


@dataclasses.dataclass(frozen=True)
class Tfds:
    """A split of a prepared TFDS dataset, decoded as it is read."""

    builder: object
    name: str
    keys: tuple[str, str]
    size: int

    def __len__(self):
        return len(self._source(decode=True))

    def _source(self, decode: bool):
        import tensorflow_datasets as tfds

        image, _ = self.keys
        decoders = None if decode else {image: tfds.decode.SkipDecoding()}
        return self.builder.as_data_source(split=self.name, decoders=decoders)

    def take(self, indices):
        image, label = self.keys
        source = self._source(decode=True)
        examples = []
        for start in range(0, len(indices), CHUNK):
            examples += source.__getitems__([int(i) for i in indices[start : start + CHUNK]])
        images = [fit(e[image], self.size) if self.size else e[image] for e in examples]
        return {"image": np.stack(images), "label": np.array([e[label] for e in examples], np.int32)}

    def labels(self):
        source = self._source(decode=False)
        label = self.keys[1]
        starts = range(0, len(source), CHUNK)
        groups = (source.__getitems__(list(range(s, min(s + CHUNK, len(source))))) for s in starts)
        return np.array([example[label] for group in groups for example in group], np.int32)


@dataclasses.dataclass(frozen=True)
class FewLabels:
    """A split that shows the first `per_class` labels of every class and hides the others."""

    split: Split
    visible: np.ndarray

    @classmethod
    def of(cls, split: Split, per_class: int) -> "FewLabels":
        labels = split.labels()
        visible = np.zeros(len(labels), bool)
        for value in np.unique(labels):
            visible[np.flatnonzero(labels == value)[:per_class]] = True
        return cls(split, visible)

    def __len__(self):
        return len(self.split)

    def take(self, indices):
        batch = self.split.take(indices)
        return batch | {"label": np.where(self.visible[indices], batch["label"], UNLABELLED).astype(np.int32)}

    def labels(self):
        return np.where(self.visible, self.split.labels(), UNLABELLED).astype(np.int32)


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes so that the short side is `size` (bilinear, antialiased) and cuts the centre square."""
    from PIL import Image

    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    scale = size / min(height, width)
    target = max(size, round(width * scale)), max(size, round(height * scale))
    channels = [
        Image.fromarray(image[..., c]).resize(target, Image.Resampling.BILINEAR) for c in range(image.shape[-1])
    ]
    resized = np.stack([np.asarray(channel) for channel in channels], -1)
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def digits() -> Dataset:
    """The handwritten digits that scikit-learn carries: 1,797 scans of 8 x 8 pixels in 17 grey levels.

    Split once and for all into 1,077 training, 360 validation and 360 test examples by NumPy's legacy
    generator, whose stream is frozen across versions.
    """
    from sklearn.datasets import load_digits

    loaded = load_digits()
    image = np.round(loaded.images * (255 / 16)).astype(np.uint8)[..., None]
    label = loaded.target.astype(np.int32)
    order = np.random.RandomState(0).permutation(len(label))
    parts = {"train": order[:1077], "validation": order[1077:1437], "test": order[1437:]}
    splits = {role: Arrays(image[part], label[part]) for role, part in parts.items()}
    return Dataset(splits, tuple(map(str, range(10))), image.shape[1:])


def npz(path: str) -> Dataset:
    """An `.npz` with `train_image`, `train_label`, and the same for `validation` and `test`.

    Images are uint8 or float `[n, height, width]` or `[n, height, width, channels]`, labels integers `[n]`;
    `class_names` is optional.

    Raises:
        UserError: for a missing or foreign file, shapes that do not fit, labels that are not whole numbers
            from 0 on, and images that are not finite.
    """
    if not path or not pathlib.Path(path).is_file():
        raise UserError(f"no file {path!r}; data.path names an .npz with train_image, train_label, test_image, ...")
    try:
        arrays = dict(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not an .npz of plain arrays: {error}") from error
    roles = [key.removesuffix("_image") for key in arrays if key.endswith("_image")]
    if "train" not in roles:
        raise UserError(f"{path} has no array 'train_image'; there are {sorted(arrays)}")
    splits = {role: _checked(path, role, arrays) for role in roles}
    names = _class_names(path, arrays, splits)
    for role, split in splits.items():
        if split.label.max() >= len(names):
            raise UserError(
                f"{path}: '{role}_label' goes up to {split.label.max()}, and there are {len(names)} classes"
            )
    shapes = {role: split.image.shape[1:] for role, split in splits.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"the splits of {path} have images of different shapes: {shapes}")
    return Dataset(splits, names, shapes["train"])


def _class_names(path: str, arrays: Mapping[str, np.ndarray], splits: Mapping[str, Arrays]) -> tuple[str, ...]:
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise UserError(f"{path}: 'class_names' has shape {arrays['class_names'].shape}; it is a list of names")
        return tuple(map(str, arrays["class_names"]))
    train = splits["train"].label
    if train.max() >= len(train):
        raise UserError(
            f"{path}: 'train_label' goes up to {train.max()} in {len(train)} examples; mend it, or add 'class_names'"
        )
    return tuple(map(str, range(train.max() + 1)))


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
    whole = np.issubdtype(label.dtype, np.integer)
    if not whole or label.min() < 0:
        seen = f"from {label.min()} to {label.max()}" if whole else f"of {label.dtype}"
        raise UserError(f"{path}: '{role}_label' is {seen}; labels are whole numbers from 0 on")
    if image.dtype != np.uint8:
        if not np.issubdtype(image.dtype, np.floating):
            raise UserError(f"{path}: '{role}_image' is {image.dtype}; images are uint8, or floats in [0, 1]")
        image = image.astype(np.float32)
        check_finite(image, np.arange(len(image)), f"{path}: '{role}_image'")
        if image.min() < 0 or image.max() > 1:
            raise UserError(f"{path}: '{role}_image' is from {image.min()} to {image.max()}; floats are in [0, 1]")
    return Arrays(image, label.astype(np.int32))


def check_finite(image: np.ndarray, indices: np.ndarray, where: str) -> None:
    """Raises `UserError` naming the first example that holds a NaN or an infinity."""
    bad = ~np.isfinite(image).all(axis=tuple(range(1, image.ndim)))
    if bad.any():
        raise UserError(
            f"{where} is not finite in {bad.sum()} of {len(bad)} examples, the first at index"
            f" {indices[np.flatnonzero(bad)[0]]}; clean the data, NaN would spread to every weight"
        )


def tfds(name: str, data_dir: str, splits: Mapping[str, str], size: int) -> Dataset:
    """A dataset of TensorFlow Datasets, read through `tfds.data_source`'s random access, without TensorFlow.

    Args:
        name: as TFDS has it: `mnist`, `imagenet2012`, `name/config:version`.
        data_dir: where it was prepared; "" for TFDS's default.
        splits: role -> TFDS split, such as `train[:90%]`.
        size: resize to squares of this side; 0 leaves images as they are.
    """
    builder = _builder(name, data_dir)
    features = builder.info.features
    keys = builder.info.supervised_keys or ("image", "label")
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    if kinds.get(keys[0]) != "Image" or kinds.get(keys[1]) != "ClassLabel":
        raise UserError(f"{name} is not an image classification set: its features are {kinds}")
    shape = tuple(features[keys[0]].shape)
    if size:
        shape = (size, size, shape[-1])
    if None in shape:
        raise UserError(f"the images of {name} differ in size {shape}; set data.size, say 224")
    found = {role: Tfds(builder, split, keys, size) for role, split in splits.items() if split}
    for split in found.values():
        try:
            len(split)
        except ValueError as error:
            have = {key: info.num_examples for key, info in builder.info.splits.items()}
            raise UserError(
                f"{name}: no split {split.name!r}: {str(error).splitlines()[0]} There are {have}"
            ) from error
        except NotImplementedError as error:
            raise _not_prepared(name, builder) from error
    return Dataset(found, tuple(features[keys[1]].names), shape)


def _builder(name: str, data_dir: str):
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        import tensorflow_datasets
        from tensorflow_datasets.core.registered import DatasetNotFoundError

        if data_dir and not os.path.isdir(os.path.expanduser(data_dir)):
            raise UserError(f"no folder {data_dir!r}; data.data_dir names the folder that holds prepared TFDS datasets")
        try:
            builder = tensorflow_datasets.builder(name, data_dir=data_dir or None)
        except DatasetNotFoundError as error:
            options = re.findall(r"^\s*- (\w+)$", str(error), re.MULTILINE)
            folder = data_dir or tensorflow_datasets.core.constants.DATA_DIR
            prepared = sorted(p.name for p in pathlib.Path(folder).expanduser().glob("*") if p.is_dir())
            raise _no_dataset(name, options, prepared, folder) from error
        except (ValueError, AssertionError) as error:
            raise UserError(f"TFDS cannot open {name!r}: {str(error).splitlines()[0]}") from error
        if not builder.info.splits:
            raise _not_prepared(name, builder)
        return builder
    finally:
        logging.set_verbosity(verbosity)


def _no_dataset(name: str, registered: list[str], prepared: list[str], folder: object) -> UserError:
    near = str(unknown("dataset", name, [*EMBEDDED, *registered, *prepared])).split("there are")[0]
    return UserError(
        f"{near}there are {[*EMBEDDED]}, those prepared in {folder}: {prepared}, and the {len(registered)} that"
        " TFDS registers (tensorflow.org/datasets/catalog)"
    )


def _not_prepared(name: str, builder: object) -> UserError:
    folder = pathlib.Path(builder.data_dir)
    root = folder.parents[1]
    return UserError(
        f"{name} is not prepared in {root} (there is no ArrayRecord data in {folder}); prepare it once, where the"
        ' network and TensorFlow are there (pip install tensorflow): python -c "import tensorflow_datasets as tfds;'
        f" tfds.builder('{name}', data_dir='{root}', file_format='array_record').download_and_prepare()\";"
        " or name another folder with --config.data.data_dir"
    )


EMBEDDED = ("digits", "npz")


def load(name: str, *, data_dir: str = "", path: str = "", splits: Mapping[str, str] | None = None, size: int = 0):
    """Opens a dataset by name: `digits`, `npz` (from `path`), or any other name from TFDS.

    Raises:
        UserError: for names, folders and splits that are not there, with what is.
    """
    if name in EMBEDDED and (splits or size):
        raise UserError(f"data.splits and data.size are for datasets of TFDS; {name!r} has its own, leave them out")
    if name == "digits":
        return digits()
    if name == "npz":
        return npz(path)
    return tfds(name, data_dir, splits or {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}, size)
