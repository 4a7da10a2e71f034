"""TensorFlow Datasets, read by `tfds.data_source`'s random access, without TensorFlow.

Datasets of images with labels, masks or boxes; of texts, as tokens of `data.tokenizer`, with labels or without; of one
text feature without tokenizer, whose texts are read byte by byte (`texts.Windows`); and any dataset as a table, if
`columns` or `transforms` are set. A feature `route` chooses a network for each example of any but the third.
"""

import array
import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.config import registry
from jaxdistill.data.dataset import CHUNK, Dataset, DatasetSettings, Split
from jaxdistill.data.images import convert_channels, resize
from jaxdistill.data.spilled import ArrayWriter, ColumnWriter, Scratch
from jaxdistill.data.supervision import KEYS, SEVERAL, name_columns
from jaxdistill.data.tables import make_dataset
from jaxdistill.data.tables.parse import CATEGORY, make_tables
from jaxdistill.data.tables.values import Columns
from jaxdistill.data.texts import make_windows
from jaxdistill.data.tfds_annotations import annotations_of, read_annotations
from jaxdistill.data.tfds_examples import iterate_examples, not_prepared, open_split, read_examples
from jaxdistill.data.tfds_routes import read_feature_routes
from jaxdistill.data.tokenized_texts import TextRows, check_settings, tokenize
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

SPLITS = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}
"""The default splits of a dataset of images."""


@dataclasses.dataclass(frozen=True)
class Tfds(Split):
    """A split of a prepared TFDS dataset, decoded as it is read.

    Attributes:
        builder: TFDS's.
        name: of the split, as TFDS writes it.
        keys: features of image and label.
        size: the side to resize to; 0 for none.
        channels: to convert to; 0 for none.
    """

    builder: Any
    name: str
    keys: tuple[str, str]
    size: int = 0
    channels: int = 0

    def __len__(self) -> int:
        return len(self._source(decode=True))

    def _source(self, decode: bool) -> Any:
        import tensorflow_datasets as tfds

        image, _ = self.keys
        decoders = None if decode else {image: tfds.decode.SkipDecoding()}
        return self.builder.as_data_source(split=self.name, decoders=decoders)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        image, label = self.keys
        source = self._source(decode=True)
        examples: list[Any] = []
        for start in range(0, len(positions), CHUNK):
            chunk = [int(i) for i in positions[start : start + CHUNK]]
            examples += read_examples(source, self.builder, self.name, chunk, keys=self.keys)
        images = [resize(example[image], self.size, self.channels) for example in examples]
        return {"image": np.stack(images), "label": np.array([example[label] for example in examples], np.int32)}

    def labels(self) -> np.ndarray:
        return self._labels

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        source = self._source(decode=False)
        label = self.keys[1]
        starts = range(0, len(source), CHUNK)
        chunks = (list(range(start, min(start + CHUNK, len(source)))) for start in starts)
        groups = (read_examples(source, self.builder, self.name, chunk, keys=self.keys) for chunk in chunks)
        return np.array([example[label] for group in groups for example in group], np.int32)


def read(settings: DatasetSettings) -> Dataset:
    """Opens a prepared dataset; `name` may be `mnist`, `imagenet2012` or `name/config:version`.

    Raises:
        UserError: for missing names, folders and splits, with the existing ones.
    """
    settings.check_no_path()
    name, builder = settings.name, _open_builder(settings.name, settings.data_dir)
    features = builder.info.features
    keys = builder.info.supervised_keys or ("image", "label")
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    if settings.columns or settings.transforms or settings.featurizer:
        return _read_table(builder, settings)
    if [*kinds.values()] == ["Text"] and not settings.tokenizer:
        return _read_text(builder, next(iter(kinds)), settings)
    if "Text" in kinds.values() and "Image" not in kinds.values():
        return _read_rows(builder, kinds, settings)
    is_classified = kinds.get(keys[0]) == "Image" and kinds.get(keys[1]) == "ClassLabel"
    if annotations_of(features, settings) and (settings.dense.annotations or not is_classified):
        return read_annotations(builder, settings)
    if not is_classified:
        raise UserError(
            f"{name} is not an image classification set, nor has it texts: its features are {kinds}; name the feature"
            " of masks or boxes by data.label, or read other labels by a function, data.name='package.module:function'"
        )
    shape = tuple(features[keys[0]].shape)
    if settings.size:
        shape = (settings.size, settings.size, shape[-1])
    if None in shape:
        raise UserError(f"the images of {name} differ in size {shape}; set data.size, for example to 224")
    shape = convert_channels(np.zeros(shape, np.uint8), settings.channels).shape
    names = {role: split for role, split in (dict(settings.splits) or SPLITS).items() if split}
    for split in names.values():
        open_split(name, builder, split)
    splits = {
        role: Tfds(builder, split, keys, size=settings.size, channels=settings.channels)
        for role, split in names.items()
    }
    dataset = Dataset(splits, tuple(features[keys[1]].names), shape)
    return read_feature_routes(dataset, builder, names, settings)


def _read_table(builder: Any, settings: DatasetSettings) -> Dataset:
    """Reads columns into memory: a text is a string, and a class is its name."""
    info = builder.info.features
    classes = [key for key, feature in info.items() if type(feature).__name__ == "ClassLabel"]
    if not any(getattr(settings, key) for key in KEYS):
        settings = dataclasses.replace(settings, label=next(iter(classes), ""))
    answers = name_columns(settings)
    columns = tuple(settings.columns) or tuple(key for key in info if key not in answers)
    keys = dict.fromkeys((name.removesuffix(CATEGORY) for name in columns), "data.columns") | answers
    for key, path in keys.items():
        if key not in info:
            raise unknown(path, key, info, f"a feature of {settings.name}")
    splits = {role: split for role, split in (dict(settings.splits) or SPLITS).items() if split}
    parts = {role: _read_columns(settings.name, builder, split, [*keys]) for role, split in splits.items()}
    settings = dataclasses.replace(settings, columns=columns)
    names = tuple(info[settings.label].names) if settings.label in classes else ()
    tables, class_names = make_tables(parts, settings, names)
    dataset = dataclasses.replace(make_dataset(tables, settings, class_names), keys=SEVERAL)
    return read_feature_routes(dataset, builder, splits, settings)


def _read_columns(name: str, builder: Any, split: str, keys: Sequence[str]) -> Columns:
    info = builder.info.features

    def plain(key: str, value: Any) -> Any:
        if type(info[key]).__name__ == "ClassLabel":
            return info[key].names[int(value)] if value >= 0 else None
        value = value.item() if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0 else value
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    scratch = Scratch()
    columns = {key: ColumnWriter(scratch) for key in keys}
    for example in iterate_examples(name, builder, split, keys):
        for key, column in columns.items():
            column.append(plain(key, example[key]))
    values = {key: column.finish() for key, column in columns.items()}
    return Columns(values, lambda position: f"example {position} of the split {split!r} of {name!r}")


def _read_text(builder: Any, key: str, settings: DatasetSettings) -> Dataset:
    """Joins the texts of each split by line feeds; a large text is mapped."""
    default = {role: role for role in SPLITS if role in builder.info.splits}
    splits = {}
    for role, split in (dict(settings.splits) or default).items():
        if split:
            writer, separator = ArrayWriter(), b""
            writer.append(np.zeros(0, np.uint8))
            for example in iterate_examples(settings.name, builder, split, [key]):
                writer.append(np.frombuffer(separator + example[key], np.uint8))
                separator = b"\n"
            splits[role] = writer.finish()
    return make_windows(settings.name, splits, settings.length)


def _choose(key: str, name: str, kinds: Mapping[str, str], kind: str) -> str:
    """Returns the feature of a kind that is named, or the only one; "" if there is none."""
    features = [feature for feature, its_kind in kinds.items() if its_kind == kind]
    if name and name not in features:
        raise unknown(f"data.{key}", name, features, f"one of the features of the kind {kind}")
    if len(features) > 1 and not name:
        raise UserError(f"data.{key} must be one of the features {features}, got ''. Name it")
    return name or next(iter(features), "")


def _read_rows(builder: Any, kinds: Mapping[str, str], settings: DatasetSettings) -> Dataset:
    """Returns the tokens of a text feature, or of a pair of them, and the class label if there is one."""
    check_settings(settings)
    supervised = builder.info.supervised_keys or ()
    text = _choose(
        "text", settings.text or next((key for key in supervised if kinds[key] == "Text"), ""), kinds, "Text"
    )
    pair = _choose("pair", settings.pair, kinds, "Text") if settings.pair else ""
    label = _choose("label", settings.label, kinds, "ClassLabel")
    existing = builder.info.splits
    default = SPLITS if "validation" not in existing else {role: role for role in SPLITS if role in existing}
    rows = {}
    names = {role: split for role, split in (dict(settings.splits) or default).items() if split}
    keys, scratch = [key for key in (text, pair, label) if key], Scratch()
    for role, split in names.items():
        columns = {key: ColumnWriter(scratch) for key in (text, pair) if key}
        labels = array.array("i")
        for position, example in enumerate(iterate_examples(settings.name, builder, split, keys)):
            for key, column in columns.items():
                column.append(_decode(settings.name, split, position, example[key]))
            if label:
                labels.append(int(example[label]))
        rows[role] = TextRows(
            columns[text].finish(),
            columns[pair].finish() if pair else None,
            np.array(labels, np.int32) if label else None,
        )
    class_names = tuple(builder.info.features[label].names) if label else ()
    dataset = tokenize(rows, class_names, settings, lambda role, position: f"example {position} of {names[role]!r}")
    return read_feature_routes(dataset, builder, names, settings)


def _decode(name: str, split: str, position: int, text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"example {position} of {split!r} of {name!r} must be UTF-8, got {text[:40]!r} ({error}). Leave it out"
            " with data.splits"
        ) from error


def _open_builder(name: str, data_dir: str) -> Any:
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        import tensorflow_datasets
        from tensorflow_datasets.core.registered import DatasetNotFoundError

        root = files.input_path("data.data_dir", data_dir, below=re.split("[/:]", name)[0])
        if data_dir and not root.is_dir():
            raise UserError(f"no folder {data_dir!r}; data.data_dir names the folder that holds prepared TFDS datasets")
        try:
            builder = tensorflow_datasets.builder(name, data_dir=str(root) if data_dir else None)
        except DatasetNotFoundError as error:
            options = re.findall(r"^\s*- (\w+)$", str(error), re.MULTILINE)
            folder = root if data_dir else pathlib.Path(tensorflow_datasets.core.constants.DATA_DIR).expanduser()
            prepared = sorted(p.name for p in folder.glob("*") if p.is_dir())
            raise _no_dataset(name, options, prepared, folder) from error
        except (ValueError, AssertionError) as error:
            raise UserError(f"TFDS cannot open {name!r}: {str(error).splitlines()[0]}") from error
        if not builder.info.splits:
            raise not_prepared(name, builder)
        return builder
    finally:
        logging.set_verbosity(verbosity)


def _no_dataset(name: str, registered: list[str], prepared: list[str], folder: object) -> UserError:
    readers = registry.names("dataset")
    nearest = str(unknown("data.name", name, [*readers, *registered, *prepared], "a dataset")).split("There are")[0]
    return UserError(
        f"{nearest}There are {readers}, those prepared in {folder}: {prepared}, and the {len(registered)} that"
        " TFDS registers (tensorflow.org/datasets/catalog)"
    )
