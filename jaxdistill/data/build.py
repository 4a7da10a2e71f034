"""What a `data` section names: a dataset, opened once, and what of it and of other sets a stage trains on."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdistill.data import datasets, loader, subsets
from jaxdistill.data.dataset import EMBEDDED, Arrays, Dataset, Split
from jaxdistill.data.mixture import Converted, Mixture
from jaxdistill.data.noise import Noise
from jaxdistill.errors import UserError, check_kind, check_least, unknown

RESIDENT_LIMIT = 2 << 30
"""Bytes up to which `data.resident="auto"` holds a split on the device."""


def opened(data: Mapping[str, Any]) -> Dataset:
    """Opens the main dataset of a `data` section; stages of a pipeline share what is decoded.

    Raises:
        UserError: for a name, a folder or a split that is not there, with what is.
    """
    if not data["name"]:
        raise UserError(f"no dataset is named; set data.name to one of {[*EMBEDDED]} or a name of TFDS")
    dataset = _opened(_key(data))
    _check_options(data, dataset)
    return dataset


OF_IMAGES = {"size": 0, "channels": 0, "mean": (), "std": (), "statistics": 0, "augment": (), "views": 1}
"""Keys of a `data` section that mean something of images alone, with what leaves them out."""


def _check_options(data: Mapping[str, Any], dataset: Dataset) -> None:
    """Raises `UserError` where images are asked for what only texts have, or the other way round."""
    if "image" in dataset.fields:
        if data["length"]:
            raise UserError(f"data.length={data['length']} is of texts, and {data['name']!r} has images; leave it out")
        return
    for key, nothing in OF_IMAGES.items():
        if data[key] and data[key] != nothing:
            raise UserError(f"data.{key}={data[key]!r} is of images, and {data['name']!r} has texts; leave it out")
    if data["mix"]:
        raise UserError(f"data.mix mixes sets of images, and {data['name']!r} has texts; leave it out")
    if data["length"] and not dataset.of_bytes:
        raise UserError(
            f"data.length={data['length']} cuts a text in windows, and {data['name']!r} has texts; leave it out"
        )


def is_resident(data: Mapping[str, Any], size: int) -> bool:
    """Whether so many bytes are held on the device."""
    if data["resident"] not in ("auto", "yes", "no"):
        raise unknown("data.resident", data["resident"], ("auto", "yes", "no"))
    return data["resident"] == "yes" or (data["resident"] == "auto" and size <= RESIDENT_LIMIT)


def standardisation(data: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation by channel, of images in [0, 1]: those set, or the training split's.

    They are measured on the whole split of the main dataset, whatever a stage trains on, so that networks of different
    parts of the data see the same image in the same way.
    """
    if not data["mean"] and not data["std"]:
        return _statistics(_key(data))
    for key in ("mean", "std"):
        for number in data[key]:
            check_kind(f"a number of data.{key}", number, 0.0)
    mean, std = tuple(map(float, data["mean"])), tuple(map(float, data["std"]))
    channels = opened(data).shape[-1]
    if not len(mean) == len(std) == channels:
        raise UserError(
            f"data.mean={mean} and data.std={std} are both set, or neither, with a number for each channel: {channels}"
        )
    return mean, std


def training(data: Mapping[str, Any], dataset: Dataset) -> Split:
    """Returns what a stage trains on: what is chosen of the main set, and the members of `data.mix` with a weight.

    Raises:
        UserError: for anything that cannot be had.
    """
    weights = {"": _weight("data.weight", data["weight"])}
    members = dict(sorted(data["mix"].items()))
    weights |= {name: _weight(f"data.mix.{name}.weight", member["weight"]) for name, member in members.items()}
    if not any(weights.values()):
        raise UserError("data.weight is 0 and nothing is mixed in with a weight; there is nothing to train on")
    chosen = {"": subsets.chosen(dataset, data)} if weights[""] else {}
    chosen |= {n: _member(n, member, data, dataset) for n, member in members.items() if weights[n]}
    if [*chosen] == [""]:
        return chosen[""]
    return Mixture(tuple(chosen.values()), tuple(weights[name] for name in chosen))


def shows_labels(data: Mapping[str, Any]) -> bool:
    """Whether any example of the training split may have a label."""
    own = data["weight"] and data["name"] != "noise" and not data["unlabelled"]
    return bool(own) or any(member["labels"] and member["weight"] for member in data["mix"].values())


def described(data: Mapping[str, Any]) -> list[str]:
    """Tells in words what `training` makes of the main dataset; nothing where it is all of it."""
    part, subset, words = data["partition"], data["subset"], []
    if data["weight"]:
        if part["of"] > 1:
            how = f" {part['concentration']:g}" if part["by"] == "dirichlet" else ""
            words += [f"part {part['part']} of {part['of']} by {part['by']}{how}"]
        words += [f"only classes {', '.join(map(str, data['only']))}"] * bool(data["only"])
        words += [f"{subset['share']:.4g} of them"] * (subset["share"] < 1)
        words += [f"{subset['count']:,} of them"] * bool(subset["count"])
        words += [f"{data['labels']} labels of each class"] * bool(data["labels"])
        words += [f"labels hidden of {', '.join(map(str, data['hide']))}"] * bool(data["hide"])
        words += ["no labels"] * data["unlabelled"]
    mixed = {n: entry for n, entry in sorted(data["mix"].items()) if entry["weight"]}
    if mixed:
        parts = [f"{data['name']} {data['weight']:g}"] * bool(data["weight"])
        parts += [f"{n} {entry['weight']:g}{' with labels' * entry['labels']}" for n, entry in mixed.items()]
        words += [f"mixed by weight: {', '.join(parts)}"]
    return words


def _key(data: Mapping[str, Any]) -> str:
    shared = ("name", "data_dir", "path", "splits", "size", "channels", "resident", "statistics")
    key = {key: data[key] for key in shared} | {"length": data.get("length", 0)}
    return json.dumps(
        key | ({"noise": dict(data["noise"])} if data["name"] == "noise" else {}), sort_keys=True, default=dict
    )


@functools.lru_cache(maxsize=8)
def _opened(key: str) -> Dataset:
    data = json.loads(key)
    names = {"name", "data_dir", "path", "size", "channels", "noise", "length"} & {*data}
    named = data["splits"] if any(data["splits"].values()) else None
    loaded = datasets.load(**{name: data[name] for name in names}, splits=named)
    dataset = dataclasses.replace(loaded, name=data["name"])
    train = dataset.split("train")
    if dataset.vocabulary or not is_resident(data, len(train) * dataset.example_bytes):
        return dataset
    held = {}
    for role, split in dataset.splits.items():
        held[role] = split if isinstance(split, Arrays) else Arrays(**split.take(np.arange(len(split))))
        loader.check_labels(held[role].label, dataset.classes, f"the {role} split of {data['name']}")
    return dataclasses.replace(dataset, splits=held)


@functools.lru_cache(maxsize=8)
def _statistics(key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return loader.statistics(_opened(key).split("train"), json.loads(key)["statistics"])


def _weight(what: str, value: float) -> float:
    check_least(what, value, 0)
    if not math.isfinite(value):
        raise UserError(f"{what}={value} makes no sense; it is finite, and rows are dealt in proportion to it")
    return float(value)


def _member(name: str, member: Mapping[str, Any], data: Mapping[str, Any], main: Dataset) -> Split:
    """Opens a set that is mixed in, as images of the main set's shape and type, its labels hidden unless asked for."""
    what, train = f"data.mix.{name}", main.split("train")
    if not member["name"]:
        raise UserError(f"{what} names no dataset; set {what}.name to one of {[*EMBEDDED]} or a name of TFDS")
    if member["name"] == "noise":
        if member["labels"] or member["size"] or member["channels"]:
            raise UserError(
                f"{what}: noise has no labels, and takes its shape from {data['name']}; leave those keys out"
            )
        settings = {key: value for key, value in member["noise"].items() if key != "classes"}
        split: Split = Noise(main.shape, **settings, of=subsets.chosen(main, data))
    else:
        split = _matching(what, member, data, main)
    dtype = train.take(np.arange(1))["image"].dtype
    if split.take(np.arange(1))["image"].dtype != dtype:
        split = Converted(split, dtype)
    return split if member["labels"] else subsets.Hidden(split, np.zeros(len(split), bool))


def _matching(what: str, member: Mapping[str, Any], data: Mapping[str, Any], main: Dataset) -> Split:
    # The shortest windows: a text is opened only to be refused.
    other = _opened(_key({**member, "resident": data["resident"], "statistics": 0, "length": 2}))
    if "image" not in other.fields:
        raise UserError(f"{what} has texts and {data['name']!r} images; a batch is of one kind")
    if other.shape != main.shape:
        side, channels = main.shape[0], main.shape[-1]
        raise UserError(
            f"the images of {what} are {other.shape} and those of {data['name']} {main.shape}, and a batch has one"
            f" shape; set {what}.size={side} and {what}.channels={channels}, or data.size and data.channels"
        )
    if member["labels"] and other.class_names != main.class_names:
        raise UserError(
            f"{what}.labels=True, and its classes are not those of {data['name']}: {_few(other.class_names)} and"
            f" {_few(main.class_names)}; leave it out, and its examples are unlabelled"
        )
    return other.split("train")


def _few(names: tuple[str, ...]) -> str:
    return f"{[*names[:5]]}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
