"""From a `data` section to a dataset, opened once, and to the split that a stage trains on."""

import dataclasses
import functools
import hashlib
import math

import numpy as np

from jaxdistill.config import registry
from jaxdistill.config.schema import DataConfig, MemberConfig
from jaxdistill.data import datasets, loader, subsets
from jaxdistill.data.dataset import Arrays, Dataset, DatasetSettings, Split
from jaxdistill.data.dense import DENSE_FIELDS, DenseArrays
from jaxdistill.data.mixture import Converted, Mixture
from jaxdistill.data.noise import Noise
from jaxdistill.data.routes import ROUTE, WithRoute
from jaxdistill.data.texts import Windows
from jaxdistill.errors import UserError, check_least

FINGERPRINT_CHUNK = 4096
"""Examples that are read at once for a fingerprint."""

RESIDENT_LIMIT = 2 << 30
"""Bytes up to which `data.resident="auto"` holds a split on the device."""


def forget_datasets() -> None:
    """Forgets what was read: a file may have changed since, as between two launches in one process."""
    for cached in (_open, _measure, fingerprint):
        cached.cache_clear()


def open_dataset(data: DataConfig) -> Dataset:
    """Opens the main dataset of a `data` section; stages of a pipeline share decoded splits.

    Raises:
        UserError: for a missing name, folder or split, with the existing ones.
    """
    if not data.name:
        raise UserError(
            f"data.name must be a dataset, got ''. Set it to one of {registry.names('dataset')} or a name of TFDS"
        )
    dataset = _open(DatasetSettings.of(data, data.length), data.resident)
    _check_options(data, dataset)
    return dataset


OF_IMAGES = {"size": 0, "channels": 0, "mean": (), "std": (), "statistics": 0, "augment": (), "views": 1}
"""Keys of a `data` section that apply to images alone, with the value that leaves them out."""


OF_TABLES = {"label": "", "target": "", "columns": (), "transforms": (), "featurizer": ""}
"""Keys of a `data` section that apply to tables alone, likewise."""

OF_FILES = {"labels": (), "targets": ()}
"""Keys of a `data` section that apply to images and texts in files alone, likewise."""

OF_DENSE = {"width": 0, "annotations": "", "class_names": (), "void": (255,), "boxes": 0}
"""Keys of a `data` section that apply to images with masks or boxes alone, likewise."""

OF_CLASSES = {"classes": (), "labels_per_class": 0, "hide_labels_of": (), "unlabelled": False, "mix": {}, "views": 1}
"""Keys of a `data` section that need one class per example, or its absence, likewise."""

OF_ONE_CLASS = {"classes": (), "hide_labels_of": (), "mix": {}}
"""Keys of a `data` section that need one class per example, likewise."""

OF_ANSWERS = ("answer", "end", "messages", "template", "teacher_text", "spans")
"""Keys of a `data` section that apply to texts with answers alone."""

OF_TOKENIZERS = ("text", "pair", "tokenizer", "teacher_tokenizer", "buckets", "pool", *OF_ANSWERS)
"""Keys of a `data` section that apply to texts alone that become tokens."""


def _check_options(data: DataConfig, dataset: Dataset) -> None:
    """Raises `UserError` for options of one kind of examples on another kind."""
    noun = "images" if "image" in dataset.fields else "a table" if dataset.featurizer else "texts"
    is_tokenized, is_dense = dataset.split("train").token_counts is not None, bool(DENSE_FIELDS & {*dataset.fields})
    _check_dense_options(data, is_dense, dataset)
    given = {"image": data.image, "route": data.route, "splits.seed": data.splits.seed if data.splits.seed >= 0 else ""}
    for key, value in given.items():
        if value != "" and key not in dataset.keys:
            raise UserError(f"data.{key} must be left out for {data.name!r}, which does not use it, got {value!r}")
    _check_supervision_options(data, dataset)
    if data.packing and not is_tokenized:
        raise UserError(f"data.packing must be False for {data.name!r}, which has {noun}, got True. Remove it")
    for key, default in ({} if dataset.featurizer else OF_TABLES).items():
        if (value := getattr(data, key)) and not (
            key in dataset.keys
            or (key == "label" and (is_tokenized or (is_dense and data.name not in datasets.DATASETS)))
        ):
            raise UserError(
                f"data.{key} must be {default!r} for {data.name!r}, which has {noun}, got {value!r}. Remove it"
            )
    if "image" in dataset.fields:
        for key in ("length", *OF_TOKENIZERS):
            if getattr(data, key):
                raise UserError(
                    f"data.{key}={getattr(data, key)!r} is of texts, and {data.name!r} has images; leave it out"
                )
        return
    for key, default in OF_IMAGES.items():
        value = getattr(data, key)
        if value and value != default:
            raise UserError(f"data.{key}={value!r} is of images, and {data.name!r} has {noun}; leave it out")
    if data.mix:
        raise UserError(f"data.mix mixes sets of images, and {data.name!r} has {noun}; leave it out")
    is_window = isinstance(dataset.split("train"), Windows)
    if data.length and not is_window and not is_tokenized:
        raise UserError(f"data.length={data.length} cuts a text in windows, and {data.name!r} has {noun}; leave it out")
    for key in () if is_tokenized else OF_TOKENIZERS:
        if getattr(data, key) and not (key == "tokenizer" and is_window and not dataset.of_bytes):
            raise UserError(
                f"data.{key} must be left out for {data.name!r}, which has {noun} without a tokenizer, got"
                f" {getattr(data, key)!r}. It is for texts of TFDS, 'text_rows' and 'answers'"
            )
    for key in () if "answer_mask" in dataset.fields else OF_ANSWERS:
        if getattr(data, key):
            raise UserError(
                f"data.{key} must be '' for {data.name!r}, which has texts without answers, got"
                f" {getattr(data, key)!r}. It is for 'answers'"
            )
    if data.buckets:
        _check_buckets(data)


def _check_supervision_options(data: DataConfig, dataset: Dataset) -> None:
    """Raises `UserError` for columns of labels and targets on other data, and for keys that need one class on those."""
    for key, default in OF_FILES.items():
        if getattr(data, key) and key not in dataset.keys:
            raise UserError(
                f"data.{key} must be {default!r} for {data.name!r}, which does not read it, got {getattr(data, key)!r}."
                " It is for 'images', 'text_rows' and tables of named columns"
            )
    if not {"labels", "target"} & {*dataset.fields}:
        return
    values = {key: (getattr(data, key), default) for key, default in OF_ONE_CLASS.items()}
    for key, (value, default) in (values | {"partition.by": (data.partition.by, "iid")}).items():
        if value != default:
            raise UserError(
                f"data.{key} must be {default!r} for {data.name!r}, whose examples have no single class, got {value!r}."
                " Remove it"
            )


def _check_dense_options(data: DataConfig, is_dense: bool, dataset: Dataset) -> None:
    """Raises `UserError` for options of masks and boxes on other data, and for those of classes on masks and boxes."""
    for key, default in (OF_CLASSES if is_dense else OF_DENSE).items():
        value = getattr(data, key)
        if value != default:
            reason = "which has no class of an image" if is_dense else "which has no masks or boxes"
            raise UserError(f"data.{key} must be {default!r} for {data.name!r}, {reason}, got {value!r}. Remove it")
    if is_dense:
        _check_effects(data, dataset)
    if is_dense and data.partition.by != "iid":
        raise UserError(
            f"data.partition.by must be 'iid' for {data.name!r}, which has no class of an image, got"
            f" {data.partition.by!r}. Remove it"
        )


def _check_effects(data: DataConfig, dataset: Dataset) -> None:
    """Raises `UserError` for options of masks and boxes that change nothing of a dataset that has them."""
    rows = dataset.fields["boxes"][0][0] if "boxes" in dataset.fields else 0
    effects = {
        "width": data.width in (0, dataset.shape[1]),
        "boxes": data.boxes in (0, rows),
        "class_names": not data.class_names or data.class_names == dataset.class_names,
        "void": data.void == OF_DENSE["void"] or "label_map" in dataset.fields,
    }
    for key in [key for key, has_effect in effects.items() if not has_effect]:
        raise UserError(
            f"data.{key} must be {OF_DENSE[key]!r} for {data.name!r} with {sorted(DENSE_FIELDS & {*dataset.fields})},"
            f" which it does not change, got {getattr(data, key)!r}. Remove it"
        )


def _check_buckets(data: DataConfig) -> None:
    buckets = tuple(data.buckets)
    if sorted({*buckets}) != [*buckets] or buckets[0] < 1 or buckets[-1] != data.length:
        raise UserError(
            f"data.buckets must be ascending lengths, the last of them data.length={data.length}, got {buckets}."
            f" Write {(*sorted({bucket for bucket in buckets if 0 < bucket < data.length}), data.length)}"
        )
    if data.resident == "yes":
        raise UserError(
            "data.resident must be 'auto' or 'no' with data.buckets, got 'yes'. Batches of several lengths are streamed"
        )


def is_resident(resident: str, size: int) -> bool:
    """Returns whether `size` bytes are held on the device, for `data.resident` "auto", "yes" or "no"."""
    return resident == "yes" or (resident == "auto" and size <= RESIDENT_LIMIT)


def standardisation(data: DataConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation by channel, of images in [0, 1]: those set, or the training split's.

    They are measured on the whole split of the main dataset, whatever a stage trains on, so that networks of different
    parts of the data see the same image in the same way.
    """
    if not data.mean and not data.std:
        return _measure(DatasetSettings.of(data, data.length), data.resident, data.statistics)
    mean, std = tuple(map(float, data.mean)), tuple(map(float, data.std))
    channels = open_dataset(data).shape[-1]
    if not len(mean) == len(std) == channels:
        raise UserError(
            f"data.mean={mean} and data.std={std} are both set, or neither, with a number for each channel: {channels}"
        )
    return mean, std


def training_split(data: DataConfig, dataset: Dataset) -> Split:
    """Returns the split that a stage trains on: the selected part of the main set, and the members of `data.mix`.

    Raises:
        UserError: for anything impossible.
    """
    weights = {"": _check_weight("data.weight", data.weight)}
    members = dict(sorted(data.mix.items()))
    weights |= {name: _check_weight(f"data.mix.{name}.weight", member.weight) for name, member in members.items()}
    if dataset.routes and any(weights[name] for name in members):
        raise UserError(
            f"data.mix must be empty with data.route, which its sets do not have, got {[*members]}. Remove it"
        )
    if not any(weights.values()):
        raise UserError("data.weight is 0 and nothing is mixed in with a weight; there is nothing to train on")
    splits = {"": subsets.choose(dataset, data)} if weights[""] else {}
    splits |= {name: _open_member(name, member, data, dataset) for name, member in members.items() if weights[name]}
    if [*splits] == [""]:
        return splits[""]
    return Mixture(tuple(splits.values()), tuple(weights[name] for name in splits))


def has_visible_labels(data: DataConfig) -> bool:
    """Returns whether any example of the training split may have a label."""
    main = data.weight and data.name != "noise" and not data.unlabelled
    return bool(main) or any(member.labelled and member.weight for member in data.mix.values())


def describe_training_split(data: DataConfig, of_targets: bool) -> list[str]:
    """Describes the changes of `training_split` to the main dataset, with labels or `of_targets`; empty if none."""
    part, subset, words = data.partition, data.subset, []
    if data.weight:
        if part.of > 1:
            parameter = f" {part.concentration:g}" if part.by == "dirichlet" else ""
            words += [f"part {part.part} of {part.of} by {part.by}{parameter}"]
        words += [f"only classes {', '.join(map(str, data.classes))}"] * bool(data.classes)
        words += [f"{subset.fraction:.4g} of them"] * (subset.fraction < 1)
        words += [f"{subset.count:,} of them"] * bool(subset.count)
        shown = "targets" if of_targets else "labels of each class"
        words += [f"{data.labels_per_class} {shown}"] * bool(data.labels_per_class)
        words += [f"labels hidden of {', '.join(map(str, data.hide_labels_of))}"] * bool(data.hide_labels_of)
        words += ["no labels"] * data.unlabelled
    mixed = {name: member for name, member in sorted(data.mix.items()) if member.weight}
    if mixed:
        parts = [f"{data.name} {data.weight:g}"] * bool(data.weight)
        parts += [f"{name} {member.weight:g}{' with labels' * member.labelled}" for name, member in mixed.items()]
        words += [f"mixed by weight: {', '.join(parts)}"]
    return words


@functools.lru_cache(maxsize=8)
def _open(settings: DatasetSettings, resident: str) -> Dataset:
    dataset = datasets.read(settings)
    train = dataset.split("train")
    if dataset.vocabulary or dataset.featurizer or not is_resident(resident, len(train) * dataset.example_bytes):
        return dataset
    splits = {}
    for role, split in dataset.splits.items():
        examples = split.take(np.arange(len(split)))
        loader.check_classes(examples, dataset.classes, f"the {role} split of {settings.name}")
        route = examples.pop(ROUTE, None)
        arrays = _hold(examples)
        splits[role] = arrays if route is None else WithRoute(arrays, route)
    return dataclasses.replace(dataset, splits=splits)


def _hold(examples: dict[str, np.ndarray]) -> Split:
    """Returns the split in memory of decoded examples."""
    if "label" not in examples:
        return DenseArrays(examples)
    return Arrays(examples.pop("image"), examples.pop("label"), examples)


@functools.lru_cache(maxsize=8)
def _measure(settings: DatasetSettings, resident: str, examples: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return loader.statistics(_open(settings, resident).split("train"), examples)


@functools.lru_cache(maxsize=32)
def fingerprint(settings: DatasetSettings, resident: str, role: str) -> str:
    """Returns a digest of the fields of a split: of all examples if it is held in memory, else of 256, evenly spaced.

    Args:
        settings: of the dataset.
        resident: the setting `data.resident`.
        role: of the split.
    """
    dataset = _open(settings, resident)
    split, digest = dataset.split(role), hashlib.blake2b(digest_size=16)
    is_held = is_resident(resident, len(split) * dataset.example_bytes)
    positions = np.arange(len(split)) if is_held else np.linspace(0, len(split) - 1, 256).astype(int)
    for start in range(0, len(positions), FINGERPRINT_CHUNK):
        for name, array in sorted(split.take(positions[start : start + FINGERPRINT_CHUNK]).items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return f"{len(split)} examples, {digest.hexdigest()}"


def _check_weight(path: str, value: float) -> float:
    check_least(path, value, 0)
    if not math.isfinite(value):
        raise UserError(f"{path} must be finite, got {value}. Rows are sampled in proportion to it")
    return float(value)


def _open_member(name: str, member: MemberConfig, data: DataConfig, main: Dataset) -> Split:
    """Opens a set of `data.mix`, as images of the main set's shape and type, its labels hidden unless `labelled`."""
    path, train = f"data.mix.{name}", main.split("train")
    if not member.name:
        raise UserError(
            f"{path} names no dataset; set {path}.name to one of {registry.names('dataset')} or a name of TFDS"
        )
    if member.name == "noise":
        if member.labelled or member.size or member.channels:
            raise UserError(f"{path}: noise has no labels, and takes its shape from {data.name}; leave those keys out")
        noise = member.noise
        source = subsets.choose(main, data)
        split: Split = Noise(main.shape, noise.count, kind=noise.kind, seed=noise.seed, source=source)
    else:
        split = _open_matching(path, member, data, main)
    dtype = train.take(np.arange(1))["image"].dtype
    if split.take(np.arange(1))["image"].dtype != dtype:
        split = Converted(split, dtype)
    return split if member.labelled else subsets.Hidden(split, np.zeros(len(split), bool))


def _open_matching(path: str, member: MemberConfig, data: DataConfig, main: Dataset) -> Split:
    # The shortest windows: a text is opened only to be refused.
    dataset = _open(DatasetSettings.of(member, length=2), data.resident)
    if "image" not in dataset.fields:
        raise UserError(f"{path} has texts and {data.name!r} images; a batch is of one kind")
    if dataset.shape != main.shape:
        side, channels = main.shape[0], main.shape[-1]
        raise UserError(
            f"the images of {path} are {dataset.shape} and those of {data.name} {main.shape}, and a batch has one"
            f" shape; set {path}.size={side} and {path}.channels={channels}, or data.size and data.channels"
        )
    if member.labelled and dataset.class_names != main.class_names:
        raise UserError(
            f"{path}.labelled=True, and its classes are not those of {data.name}: {_list_few(dataset.class_names)} and"
            f" {_list_few(main.class_names)}; leave it out, and its examples are unlabelled"
        )
    return dataset.split("train")


def _list_few(names: tuple[str, ...]) -> str:
    return f"{[*names[:5]]}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
