"""Datasets of TensorFlow Datasets, read through `tfds.data_source`'s random access, without TensorFlow.

Sets of images with labels, and sets of one text feature, whose texts are read byte by byte (`texts.Windows`).
"""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from jaxdistill.data import texts
from jaxdistill.data.dataset import CHUNK, EMBEDDED, Dataset, Split
from jaxdistill.data.images import recolour, shaped
from jaxdistill.errors import UserError, unknown

SPLITS = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}
"""The splits of a set of images for which none are named."""


@dataclasses.dataclass(frozen=True)
class Tfds(Split):
    """A split of a prepared TFDS dataset, decoded as it is read."""

    builder: object
    name: str
    keys: tuple[str, str]
    size: int = 0
    channels: int = 0

    def __len__(self):
        return len(self._source(decode=True))

    def _source(self, decode: bool):
        import tensorflow_datasets as tfds

        image, _ = self.keys
        decoders = None if decode else {image: tfds.decode.SkipDecoding()}
        return self.builder.as_data_source(split=self.name, decoders=decoders)

    def take(self, places):
        image, label = self.keys
        source = self._source(decode=True)
        examples = []
        for start in range(0, len(places), CHUNK):
            examples += source.__getitems__([int(i) for i in places[start : start + CHUNK]])
        images = [shaped(e[image], self.size, self.channels) for e in examples]
        return {"image": np.stack(images), "label": np.array([e[label] for e in examples], np.int32)}

    def labels(self):
        return self._labels

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        source = self._source(decode=False)
        label = self.keys[1]
        starts = range(0, len(source), CHUNK)
        groups = (source.__getitems__(list(range(s, min(s + CHUNK, len(source))))) for s in starts)
        return np.array([example[label] for group in groups for example in group], np.int32)


def load(
    name: str,
    data_dir: str,
    splits: Mapping[str, str] | None = None,
    size: int = 0,
    channels: int = 0,
    length: int = 0,
) -> Dataset:
    """Opens a prepared dataset.

    Args:
        name: as TFDS has it: `mnist`, `imagenet2012`, `name/config:version`.
        data_dir: where it was prepared; "" for TFDS's default.
        splits: role -> TFDS split, such as `train[:90%]`; `None` for `SPLITS`, or a text's own.
        size: resize to squares of this side; 0 leaves images as they are.
        channels: 1 or 3, where images have the other; 0 leaves them.
        length: tokens of a window of a text.

    Raises:
        UserError: for names, folders and splits that are not there, with what is.
    """
    builder = _builder(name, data_dir)
    features = builder.info.features
    keys = builder.info.supervised_keys or ("image", "label")
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    if [*kinds.values()] == ["Text"]:
        return _text(name, builder, next(iter(kinds)), splits, length)
    if kinds.get(keys[0]) != "Image" or kinds.get(keys[1]) != "ClassLabel":
        raise UserError(
            f"{name} is not an image classification set, nor a text: its features are {kinds}; texts with labels can be"
            " given as tokens, in an .npz with train_tokens and train_label"
        )
    shape = tuple(features[keys[0]].shape)
    if size:
        shape = (size, size, shape[-1])
    if None in shape:
        raise UserError(f"the images of {name} differ in size {shape}; set data.size, say 224")
    shape = recolour(np.zeros(shape, np.uint8), channels).shape
    named = {role: split for role, split in (splits or SPLITS).items() if split}
    for split in named.values():
        _source(name, builder, split)
    found = {role: Tfds(builder, split, keys, size, channels) for role, split in named.items()}
    return Dataset(found, tuple(features[keys[1]].names), shape)


def _source(name: str, builder: object, split: str):
    """Returns the examples of a split by place, whose first reading finds whether it is there."""
    try:
        source = builder.as_data_source(split=split)
        len(source)
    except ValueError as error:
        have = {key: info.num_examples for key, info in builder.info.splits.items()}
        raise UserError(f"{name}: no split {split!r}: {str(error).splitlines()[0]} There are {have}") from error
    except NotImplementedError as error:
        raise _not_prepared(name, builder) from error
    return source


def _text(name: str, builder: object, key: str, splits: Mapping[str, str] | None, length: int) -> Dataset:
    """The texts of each split one after the other, a line feed between them, all read into memory."""
    own = {role: role for role in SPLITS if role in builder.info.splits}
    found = {}
    for role, split in (splits or own).items():
        if split:
            source = _source(name, builder, split)
            examples = source.__getitems__(list(range(len(source)))) if len(source) else []
            found[role] = b"\n".join(example[key] for example in examples)
    return texts.windows(name, found, length)


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
